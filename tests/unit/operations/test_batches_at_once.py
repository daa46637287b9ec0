"""How many transactions of queue jobs a server runs at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from services.endpoints.domain.ledger_settings import LedgerSettings
from services.endpoints.domain.queue_job import Queue
from services.endpoints.domain.tracing import NO_TRACER
from services.endpoints.operations.batches import BatchRunner

SETTINGS = LedgerSettings()


@pytest.mark.parametrize(("most", "while_slow"), [(1, 1), (2, 1), (3, 2), (12, 8)])
async def test_a_third_fewer_while_full_batches_take_too_long(most: int, while_slow: int) -> None:
    port: Any = None
    runner = BatchRunner(
        store=port, handlers={}, endings=port, leases=port, settings=SETTINGS, at_once=most, tracer=NO_TRACER
    )
    full = SETTINGS.max_queue_jobs_per_call
    assert runner._at_once() == most
    runner._pace.learn(Queue.DEFAULT, queue_jobs=full, took=2 * SETTINGS.batch_takes)
    assert runner._at_once() == while_slow
    for _ in range(3):
        size = runner._pace.size(Queue.DEFAULT)
        runner._pace.learn(Queue.DEFAULT, queue_jobs=size, took=timedelta(milliseconds=1))
    assert runner._at_once() == most
