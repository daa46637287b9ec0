"""What must hold when nobody takes the services' log any more."""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.support.eventually import eventually
from tests.support.processes import running_processes
from tests.support.redis_process import RedisProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.processes import Processes

BACK_TO_WORK = timedelta(seconds=15)


@pytest.fixture
async def redis_process() -> AsyncIterator[RedisProcess]:
    process = RedisProcess()
    await process.start()
    yield process
    await process.kill()


async def worker_is_away(processes: Processes) -> bool:
    return await processes.worker.http_status("/readyz") == 503


async def test_services_work_and_drain_when_the_reader_of_their_log_has_gone(
    database_url: str, redis_process: RedisProcess, tmp_path: Path
) -> None:
    logs = (tmp_path / "server.log", tmp_path / "worker.log")
    with ExitStack() as readers:
        for log in logs:
            os.mkfifo(log)
            readers.callback(os.close, os.open(log, os.O_RDONLY | os.O_NONBLOCK))
        async with running_processes(
            database_url=database_url, redis_url=redis_process.url, directory=tmp_path
        ) as processes:
            await processes.index()
            readers.close()
            for log in logs:
                log.unlink()
            await redis_process.kill()
            await eventually(lambda: worker_is_away(processes))
            await redis_process.start()
            await processes.server.ready(within=BACK_TO_WORK)
            await processes.index()
            assert await processes.worker.terminate() == 0
            assert await processes.server.terminate() == 0
