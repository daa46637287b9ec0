"""Fixtures for every test: real servers once for each pytest process, and a place of its own in them for each test."""

from __future__ import annotations

import faulthandler
import gc
import importlib
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import redis.asyncio
import structlog
from _pytest.faulthandler import fault_handler_stderr_fd_key
from _pytest.nodeid import coerce_node_id
from hypothesis import HealthCheck, settings

from services.embedded.redis import EmbeddedRedis
from services.endpoints.domain.current_tenant import note_tenant
from tests.support.machine_time import stood_still
from tests.support.ports import MOST_PROCESSES
from tests.support.servers import fresh_database, reachable_directory, running_postgres
from tests.support.standstill import AgainAfterStandstill

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    from services.embedded.postgres import EmbeddedPostgres


# Where tests take minutes, and where they start processes and take seconds.
_LONGEST = "test_random_faults.py"
_LONG = ("faults", "acceptance")

# Seconds that a test which was ended by its timeout has for putting away what it holds, and after how many of them what
# goes on nevertheless is interrupted again.
_OUTLIVES_ITS_TIMEOUT = 120
_AGAIN_AFTER = 30


def pytest_configure(config: pytest.Config) -> None:
    """Log exceptions without their frames' locals: to print a test's takes seconds, for which its transactions wait."""
    config.pluginmanager.register(AgainAfterStandstill(stood_still))
    plain = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


def pytest_sessionstart() -> None:
    """Have no drawn example fail because the machine was busy elsewhere."""
    settings.register_profile(
        "unhurried", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("unhurried")


def pytest_xdist_auto_num_workers() -> int:
    """Use every processor, and two processes more: tests wait, too."""
    return min((os.cpu_count() or 1) + 2, MOST_PROCESSES)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Keep what is collected, which stays to the end, out of every later search for garbage."""
    gc.disable()
    try:
        if "PYTEST_XDIST_WORKER" in os.environ:
            _prepare_modules(session)
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _prepare_modules(session: pytest.Session) -> None:
    """Have each process of a run prepare another part of the tests first, and find the others' parts prepared.

    In a fresh checkout each would rewrite the assertions of all modules, at the same time as all others do.
    """
    names = [".".join(path.relative_to(session.config.rootpath).with_suffix("").parts) for path in _modules()]
    process = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    first = len(names) * process // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    for name in (*names[first:], *names[:first]):
        # What cannot be imported is reported when it is collected.
        with suppress(Exception, pytest.skip.Exception):
            importlib.import_module(name)


def _modules() -> list[Path]:
    return sorted(Path(__file__).parent.rglob("test_*.py"))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, each part in its random order: the last test must not be one to wait for alone."""
    items.sort(key=lambda item: (item.path.name != _LONGEST, item.path.parent.name not in _LONG))
    if "PYTEST_XDIST_WORKER" in os.environ:
        for item in items:
            _keep_group(item)


def _keep_group(item: pytest.Item) -> None:
    """Put an item's group behind its id, where the scheduler looks for it.

    pytest-xdist 3.8 does so by a name that pytest 9.2 reads no more, and every group was spread over all processes.
    """
    group = item.get_closest_marker("xdist_group")
    if group is not None and not item.nodeid.endswith(f"@{group.args[0]}"):
        item._id = coerce_node_id(f"{item.nodeid}@{group.args[0]}")


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """End a process whose test outlives its timeout, and show where each of its threads was: the others finish the run.

    A timeout is an exception in whatever runs at that moment. That may keep it to itself, or then wait for something
    else: so it comes again and again.
    """
    marker = item.get_closest_marker("timeout")
    timeout = float(marker.args[0] if marker else item.config.getini("timeout"))
    until_timeout, _ = signal.getitimer(signal.ITIMER_REAL)
    if until_timeout:
        signal.setitimer(signal.ITIMER_REAL, until_timeout, _AGAIN_AFTER)
    shown = item.config.stash[fault_handler_stderr_fd_key]
    faulthandler.dump_traceback_later(timeout + _OUTLIVES_ITS_TIMEOUT, exit=True, file=shown)
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def for_nobody() -> None:
    """Work for no tenant: what a test without a loop notes stays in the process, and is then the next ones' share."""
    note_tenant(None)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A fresh directory that PostgreSQL's own user can enter."""
    with reachable_directory() as path:
        yield path


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres() -> AsyncIterator[EmbeddedPostgres]:
    """The PostgreSQL server, with a migrated template database."""
    async with running_postgres() as server:
        yield server


@pytest_asyncio.fixture(scope="session", loop_scope="session", name="redis")
async def redis_server() -> AsyncIterator[EmbeddedRedis]:
    """The Redis server."""
    with reachable_directory() as path:
        async with EmbeddedRedis(path / "redis") as server:
            yield server


@pytest.fixture
async def database_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The address of a migrated database that only this test uses."""
    async with fresh_database(postgres) as url:
        yield url


@pytest.fixture
async def empty_database_url(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The address of a database without a schema that only this test uses."""
    async with fresh_database(postgres, template="template0") as url:
        yield url


@pytest.fixture
async def redis_url(redis: EmbeddedRedis) -> AsyncIterator[str]:
    """The address of a Redis server that is empty before and after this test."""
    await _flush(redis.url)
    yield redis.url
    await _flush(redis.url)


async def _flush(url: str) -> None:
    client = redis.asyncio.Redis.from_url(url)
    try:
        await client.flushall()
    finally:
        await client.aclose()
