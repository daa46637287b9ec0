"""The pair as real processes on servers of its own, and a customer's endpoint beside it."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp
import asyncpg

from services.embedded.ports import LOOPBACK, free_port
from services.embedded.process import EmbeddedServerError, ServerProcess
from services.embedded.up import Stack, StackSettings, running_stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import grpc

_ROOT: Final = Path(__file__).resolve().parent.parent
_READY_WITHIN: Final = timedelta(seconds=20)
_LOOK_AGAIN_AFTER: Final = timedelta(milliseconds=20)
_STOP_WITHIN: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Bench:
    """What runs, and how to reach it: by gRPC as its callers do, and by SQL to look."""

    stack: Stack
    channel: grpc.aio.Channel
    database: asyncpg.Connection[asyncpg.Record]
    customer_url: str


@asynccontextmanager
async def running_bench(on_step: Callable[[str], None]) -> AsyncIterator[Bench]:
    """Run PostgreSQL, Redis, the endpoints service, one worker and a customer's endpoint until the block ends.

    PostgreSQL is set up as it is for anyone: what it commits is on the disk. Everything lives in a directory that
    vanishes with the block.

    Raises:
        EmbeddedServerError: a process ended, or was not ready in time.
    """
    with bench_directory() as directory:
        settings = StackSettings(
            directory=directory / "kongflow", variables={"KONGFLOW_LOG_LEVEL": "warning"}, on_step=on_step
        )
        async with (
            running_customer(directory) as customer_url,
            running_stack(settings) as stack,
            stack.channel() as channel,
        ):
            database = await asyncpg.connect(stack.database_url)
            try:
                yield Bench(stack, channel, database, customer_url)
            finally:
                await database.close()


@contextmanager
def bench_directory() -> Iterator[Path]:
    """Give a fresh directory that PostgreSQL's own user can enter."""
    with tempfile.TemporaryDirectory(prefix="kongflow-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@asynccontextmanager
async def running_customer(directory: Path) -> AsyncIterator[str]:
    """Run the customer's endpoint and give its address."""
    port = free_port()
    process = ServerProcess(
        [sys.executable, "-m", "benchmarks.endpoint", str(port)],
        log=directory / "customer.log",
        stop_signal=signal.SIGTERM,
        environment={"PYTHONPATH": str(_ROOT)},
    )
    url = f"http://{LOOPBACK}:{port}"
    try:
        await _answering(f"{url}/arrivals/nothing", process)
        yield url
    finally:
        await process.stop(grace=_STOP_WITHIN)


async def _answering(url: str, process: ServerProcess) -> None:
    async with aiohttp.ClientSession() as session:
        try:
            async with asyncio.timeout(_READY_WITHIN.total_seconds()):
                while not await _answers(session, url):
                    if process.has_ended:
                        raise EmbeddedServerError("The customer's endpoint did not start.")
                    await asyncio.sleep(_LOOK_AGAIN_AFTER.total_seconds())
        except TimeoutError as error:
            raise EmbeddedServerError("The customer's endpoint gave no answer.") from error


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as response:
            return response.ok
    except aiohttp.ClientConnectionError:
        return False
