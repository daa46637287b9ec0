"""The endpoints service with one kind more, whose queue jobs do nothing: `python -m benchmarks.sides.pair_server`."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

import uvloop

from benchmarks.sides.commands import STARTS_VARIABLE, Starts
from benchmarks.sides.noop import NOOP
from services.endpoints.app import run
from services.endpoints.settings import load_settings
from services.endpoints.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.endpoints.domain.ports.ledger import FinalQueueJob
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.queue_job import QueueJob


class Noop:
    """Does nothing but note when a numbered queue job began."""

    def __init__(self, starts: Starts) -> None:
        self._starts = starts

    async def run(self, tx: Transaction, queue_jobs: Sequence[QueueJob]) -> None:  # noqa: ARG002 - the port's signature
        """Note the starts."""
        for queue_job in queue_jobs:
            self._starts.note(queue_job.args["number"])

    async def on_final(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        """Do nothing."""


def main() -> int:
    """Serve until SIGTERM."""
    settings = load_settings()
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    gc.freeze()
    uvloop.run(run(settings, more_batch_handlers={NOOP: Noop(Starts(os.environ[STARTS_VARIABLE]))}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
