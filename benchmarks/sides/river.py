"""River, which is a Go program: built once, kept in `build/`, and run like the others."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from typing import TYPE_CHECKING, Final

from benchmarks.sides.caller import Caller
from benchmarks.sides.place import ROOT, database_name
from benchmarks.sides.side import DatabaseSide
from services.embedded.process import EmbeddedServerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.sides.place import Place
    from services.embedded.process import ServerProcess

_SOURCE: Final = ROOT / "benchmarks" / "rivals" / "river"
_SOURCE_FILES: Final = ("go.mod", "go.sum", "main.go")


class RiverMissingError(Exception):
    """Says in a few words why River is not there."""


class River(DatabaseSide):
    """River with one client; `cooldown` is Go's word for a duration, `0s` for River's own default."""

    is_busy = """
    SELECT EXISTS (SELECT FROM (
        SELECT FROM river_job WHERE state IN ('available', 'running', 'retryable', 'scheduled', 'pending')
        ORDER BY id DESC LIMIT 1
    ) AS last)
    """
    remove_all = "TRUNCATE river_job"

    def __init__(self, place: Place, program: Path, *, name: str, workers: int, cooldown: str, most_jobs: int) -> None:
        database = database_name(name)
        super().__init__(place.database_url(database))
        self.name = name
        self.most_jobs = most_jobs
        self.starts = place.starts(database)
        self._place = place
        self._program = program
        self._database = database
        self._work = ("work", str(workers), cooldown)
        self._variables = place.variables(database, database=database, redis_number=0)
        self.caller = Caller(
            [str(program), "call", cooldown],
            log=place.directory / f"{database}-caller.log",
            environment=self._variables,
        )

    async def prepare(self) -> None:
        """Create the database and River's own tables."""
        await self._place.create_database(self._database)
        log = f"{self._database}-install"
        install = self._place.run(log, [str(self._program), "install"], self._variables)
        if await install.ended():
            raise EmbeddedServerError(f"River was not installed: see {self._place.directory / log}.log.")

    async def start_workers(self) -> Sequence[ServerProcess]:
        """Start one client."""
        return [self._place.run(f"{self._database}-worker", [str(self._program), *self._work], self._variables)]


async def river_program(*, may_build: bool) -> Path:
    """Return the program, built now unless it was built from the same sources before.

    Raises:
        RiverMissingError: it is not built and may not be, Go is absent, or Go could not build it.
    """
    digest = hashlib.sha256(b"".join((_SOURCE / name).read_bytes() for name in _SOURCE_FILES)).hexdigest()
    program = ROOT / "build" / "benchmarks" / f"river-{digest[:16]}"
    if program.exists():
        return program
    if not may_build:
        raise RiverMissingError("a quick run does not build it")
    go = shutil.which("go")
    if go is None:
        raise RiverMissingError("it needs Go, which is not on the PATH")
    program.parent.mkdir(parents=True, exist_ok=True)
    build = await asyncio.create_subprocess_exec(
        *(go, "build", "-mod=readonly", "-o", str(program), "."),
        cwd=_SOURCE,
        env={**os.environ, "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await build.communicate()
    if build.returncode:
        raise RiverMissingError(f"Go could not build it: {said.decode(errors='replace').strip().splitlines()[-1]}")
    return program
