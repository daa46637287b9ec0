"""Runs the benchmarks: `python -m benchmarks`, or `make bench`."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop
from rich.console import Console

from benchmarks import report
from benchmarks.calls import measure_calls
from benchmarks.floor import customer, measure_floor
from benchmarks.methods import unary_methods
from benchmarks.pickup import measure_pickup
from benchmarks.registrations import measure_registrations
from benchmarks.stack import running_bench
from benchmarks.tenant import Tenant
from services.embedded.process import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from benchmarks.figures import Table

# Narrower, the tables lose their figures.
_WIDTH: Final = 100
SECTIONS: Final = ("pickup", "registrations", "calls")


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured: calls of each method by one caller and by 32, sizes of endpoints, repeats."""

    alone: int
    together: int
    catalog_jobs: int
    sizes: Sequence[int]
    registrations: int
    pickups: int
    floor: int


FULL: Final = Extent(
    alone=200,
    together=1600,
    catalog_jobs=1000,
    sizes=(10, 100, 1000, 10_000),
    registrations=5,
    pickups=300,
    floor=300,
)
QUICK: Final = Extent(alone=3, together=32, catalog_jobs=20, sizes=(10, 100), registrations=1, pickups=5, floor=10)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and return 0; a missed target is a figure, not a failure. 1: a process did not start."""
    options = _parser().parse_args(arguments)
    console = Console()
    console.width = max(console.width, _WIDTH)
    extent = QUICK if options.quick else FULL
    sections = options.sections or SECTIONS
    try:
        tables = uvloop.run(_measure(console, extent, sections=sections, only=options.method))
    except EmbeddedServerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    report.show_summary(console, tables)
    if options.json is not None:
        report.write(options.json, tables)
    return 0


async def _measure(
    console: Console, extent: Extent, *, sections: Collection[str], only: Collection[str]
) -> list[Table]:
    tables: list[Table] = []

    def keep(table: Table) -> None:
        tables.append(table)
        status.stop()
        report.show(console, table)
        status.start()

    with console.status("starting") as status:
        async with running_bench(status.update) as bench, customer() as reached:
            tenant = Tenant(bench)
            # The worker is connected, and everything has run once, before anything is measured.
            await tenant.finished((await tenant.create_endpoint(10)).index_id)
            floor, own_answer = await measure_floor(tenant, reached, times=extent.floor)
            keep(floor)
            if "pickup" in sections:
                status.update("pickup")
                keep(await measure_pickup(tenant, reached, times=extent.pickups))
            if "registrations" in sections:
                keep(
                    await measure_registrations(
                        tenant, reached, sizes=extent.sizes, times=extent.registrations, progress=status.update
                    )
                )
            if "calls" in sections:
                for table in await measure_calls(
                    tenant,
                    own_answer=own_answer,
                    jobs=extent.catalog_jobs,
                    alone=extent.alone,
                    together=extent.together,
                    only=only,
                    progress=status.update,
                ):
                    keep(table)
    return tables


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure KongFlow on this machine.")
    parser.add_argument("sections", nargs="*", metavar="section", help=f"{', '.join(SECTIONS)}; all when none is named")
    parser.add_argument("--quick", action="store_true", help="measure a little of everything: it runs, no more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file as well")
    parser.add_argument(
        "--method",
        action="append",
        default=[],
        choices=list(unary_methods()),
        metavar="METHOD",
        help="measure only this method among the calls; repeatable",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
