"""Runs the benchmarks: `python -m benchmarks`, or `make bench`."""

from __future__ import annotations

import argparse
import gc
import importlib
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvloop
from rich.console import Console

from benchmarks import report
from benchmarks.calls import measure_calls
from benchmarks.events import Events
from benchmarks.events import Extent as EventsExtent
from benchmarks.floor import customer, measure_floor
from benchmarks.growth import Variants
from benchmarks.idle import Idle
from benchmarks.isolation import Extent as IsolationExtent
from benchmarks.isolation import Isolation
from benchmarks.methods import unary_methods
from benchmarks.pickup import measure_pickup
from benchmarks.pickup_rates import PickupRates
from benchmarks.registrations import measure_registrations
from benchmarks.rounds import take_turns
from benchmarks.side_by_side import prepared_sides
from benchmarks.sides.busy_pair import BusyPair
from benchmarks.sides.place import running_place
from benchmarks.sides.rivals import is_installed
from benchmarks.stack import bench_directory, running_bench
from benchmarks.telemetry import Telemetry, TelemetryExtent
from benchmarks.tenant import Tenant
from benchmarks.throughput import Throughput
from services.embedded.process import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from benchmarks.figures import Table
    from benchmarks.rounds import Measurement

# Narrower, the tables lose their figures.
_WIDTH: Final = 100
_SIDE_BY_SIDE: Final = ("throughput", "pickup", "idle", "growth", "workers", "telemetry")
_BY_ITSELF: Final = ("handlers", "registrations", "events", "isolation", "calls")
SECTIONS: Final = (*_SIDE_BY_SIDE, *_BY_ITSELF)


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured: calls of each method by one caller and by 32, sizes of endpoints, no-ops, repeats."""

    alone: int
    together: int
    catalog_jobs: int
    sizes: Sequence[int]
    registrations: int
    pickups: int
    floor: int
    noops: int
    rounds: int
    paced: int
    in_flight: int
    watched: timedelta
    finished: int
    workers: Sequence[int]
    telemetry: TelemetryExtent
    isolation: IsolationExtent
    events: EventsExtent


FULL: Final = Extent(
    alone=200,
    together=1600,
    catalog_jobs=1000,
    sizes=(10, 100, 1000, 10_000),
    registrations=5,
    pickups=300,
    floor=300,
    noops=10_000,
    rounds=5,
    paced=200,
    in_flight=1000,
    watched=timedelta(seconds=10),
    finished=1_000_000,
    workers=(2, 4),
    telemetry=TelemetryExtent(rounds=9, jobs=20_000, events=2_000),
    isolation=IsolationExtent(
        black_holes=20,
        hung=200,
        registrations=10_000,
        lanes=200,
        registrations_per_lane=1_000,
        watched=timedelta(seconds=10),
    ),
    events=EventsExtent(alone=500, together=6_400, batches=30, delayed=200, audiences=(1, 100, 1_000, 10_000)),
)
QUICK: Final = Extent(
    alone=3,
    together=6,
    catalog_jobs=20,
    sizes=(10, 100),
    registrations=1,
    pickups=5,
    floor=10,
    noops=100,
    rounds=1,
    paced=10,
    in_flight=10,
    watched=timedelta(milliseconds=300),
    finished=2000,
    workers=(2,),
    telemetry=TelemetryExtent(rounds=1, jobs=100, events=32),
    isolation=IsolationExtent(
        black_holes=2,
        hung=5,
        registrations=100,
        lanes=5,
        registrations_per_lane=10,
        watched=timedelta(seconds=1),
    ),
    events=EventsExtent(alone=3, together=32, batches=1, delayed=3, audiences=(1, 10)),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and return 0; a missed target is a figure, not a failure. 1: a process did not start."""
    parser = _parser()
    options = parser.parse_args(arguments)
    for section in options.sections:
        if section not in SECTIONS:
            parser.error(f"there is no section {section!r}; there are {', '.join(SECTIONS)}")
    if options.chart is not None and not is_installed("matplotlib"):
        parser.error("--chart needs matplotlib, which `make bench` installs")
    console = Console()
    console.width = max(console.width, _WIDTH)
    extent = QUICK if options.quick else FULL
    sections = options.sections or SECTIONS
    # Who measures must not pause for garbage of its own while somebody's answer arrives.
    gc.freeze()
    try:
        tables = uvloop.run(_measure(console, extent, sections=sections, only=options.method))
    except EmbeddedServerError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    report.show_summary(console, tables)
    if options.json is not None:
        report.write(options.json, tables)
    if options.chart is not None:
        chart = importlib.import_module("benchmarks.chart")
        chart.draw(options.chart, tables)
    return 0


async def _measure(
    console: Console, extent: Extent, *, sections: Collection[str], only: Collection[str]
) -> list[Table]:
    tables: list[Table] = []
    with console.status("starting") as status:

        def keep(table: Table) -> None:
            tables.append(table)
            status.stop()
            report.show(console, table)
            status.start()

        if set(sections) & set(_SIDE_BY_SIDE):
            await _measure_side_by_side(extent, sections=sections, keep=keep, progress=status.update)
        if set(sections) & set(_BY_ITSELF):
            await _measure_by_itself(extent, sections=sections, only=only, keep=keep, progress=status.update)
    return tables


async def _measure_side_by_side(
    extent: Extent, *, sections: Collection[str], keep: Callable[[Table], None], progress: Callable[[str], None]
) -> None:
    with bench_directory() as directory:
        async with running_place(directory) as place:
            sides, notes = await prepared_sides(place, quick=extent is QUICK, progress=progress)
            pair = sides[0]
            by_section: Mapping[str, Measurement] = {
                "pickup": PickupRates(pickups=extent.paced),
                "idle": Idle(watched=extent.watched),
                "throughput": Throughput(most_jobs=extent.noops, notes=notes),
            }
            taken = [measurement for section, measurement in by_section.items() if section in sections]
            if "pickup" in sections:
                busy = BusyPair(place, calls=extent.in_flight)
                await busy.prepare()
                await take_turns([busy], [by_section["pickup"]], rounds=1, progress=progress)
            await take_turns(sides, taken, rounds=extent.rounds if taken else 0, progress=progress)
            for measurement in taken:
                for table in measurement.tables():
                    keep(table)
            variants = Variants(pair, jobs=extent.noops)
            if "growth" in sections:
                await variants.add_grown(place, finished=extent.finished, progress=progress)
            if "workers" in sections:
                variants.add_workers(place, counts=extent.workers)
            for table in await variants.measure(rounds=extent.rounds, progress=progress):
                keep(table)
            if "telemetry" in sections:
                keep(await Telemetry(place, extent.telemetry).measure(progress=progress))


async def _measure_by_itself(
    extent: Extent,
    *,
    sections: Collection[str],
    only: Collection[str],
    keep: Callable[[Table], None],
    progress: Callable[[str], None],
) -> None:
    async with running_bench(progress) as bench, customer() as reached:
        tenant = Tenant(bench)
        # The worker is connected, and everything has run once, before anything is measured.
        await tenant.finished((await tenant.create_endpoint(10)).index_id)
        floor, own_answer = await measure_floor(tenant, reached, times=extent.floor)
        keep(floor)
        if "handlers" in sections:
            progress("handlers")
            keep(await measure_pickup(tenant, reached, times=extent.pickups))
        if "registrations" in sections:
            keep(
                await measure_registrations(
                    tenant, reached, sizes=extent.sizes, times=extent.registrations, progress=progress
                )
            )
        if "events" in sections:
            for table in await Events(tenant, extent=extent.events).measure(progress):
                keep(table)
        if "isolation" in sections:
            keep(await Isolation(tenant, reached, extent=extent.isolation).measure(progress))
        if "calls" in sections:
            for table in await measure_calls(
                tenant,
                own_answer=own_answer,
                jobs=extent.catalog_jobs,
                alone=extent.alone,
                together=extent.together,
                only=only,
                progress=progress,
            ):
                keep(table)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure KongFlow on this machine.")
    parser.add_argument("sections", nargs="*", metavar="section", help=f"{', '.join(SECTIONS)}; all when none is named")
    parser.add_argument("--quick", action="store_true", help="measure a little of everything: it runs, no more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file as well")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw what was measured side by side as a PNG")
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
