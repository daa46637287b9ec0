"""What must hold when Redis fails over on purpose: the old primary becomes a replica and hangs up on nobody."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import TYPE_CHECKING

from redis.asyncio import Redis

from tests.support.processes import running_processes
from tests.support.proxy import TcpProxy
from tests.support.redis_process import RedisProcess

if TYPE_CHECKING:
    from pathlib import Path

BACK_TO_WORK = timedelta(seconds=30)
FEW_LINES = 10


async def test_work_goes_on_when_the_primary_becomes_a_replica(database_url: str, tmp_path: Path) -> None:
    """The proxy is the name behind which the primary is: what connects anew is led to the new one."""
    async with AsyncExitStack() as stack:
        old, new = RedisProcess(), RedisProcess()
        for redis in (old, new):
            stack.push_async_callback(redis.kill)
            await redis.start()
        proxy = await stack.enter_async_context(TcpProxy(upstream_port=old.port))
        processes = await stack.enter_async_context(
            running_processes(
                database_url=database_url, redis_url=f"redis://127.0.0.1:{proxy.port}/0", directory=tmp_path
            )
        )
        await processes.index()
        lines_before = [len(process.log_text().splitlines()) for process in (processes.server, processes.worker)]
        proxy.upstream_port = new.port
        async with Redis.from_url(old.url) as old_client:
            await old_client.replicaof("127.0.0.1", str(new.port))

        async with asyncio.timeout(BACK_TO_WORK.total_seconds()):
            for _ in range(3):
                await processes.index()
        for process, before in zip((processes.server, processes.worker), lines_before, strict=True):
            lines = process.log_text().splitlines()[before:]
            assert len(lines) < FEW_LINES, lines
