"""Thousands of calls that make little sense: none is a defect, and nothing of them stays behind."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Final

import grpc
import pytest
from google.protobuf import descriptor_pool

from services.endpoints.rpc.access import ACCESS, Access
from tests.support.eventually import eventually
from tests.support.fuzz import fuzzed_request

if TYPE_CHECKING:
    import asyncpg
    from google.protobuf.descriptor import Descriptor

    from tests.support.rpc import Caller
    from tests.support.stage import Stage

# All 10,000 with KONGFLOW_FUZZ=whole.
CALLS: Final = 10_000 if os.environ.get("KONGFLOW_FUZZ") == "whole" else 1_500
AT_ONCE: Final = 20
MOST_GROWTH_BYTES: Final = 48 * 1024 * 1024
REFUSALS: Final = {
    *("OK", "INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED", "FAILED_PRECONDITION", "ALREADY_EXISTS"),
    *("OUT_OF_RANGE", "ABORTED", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "DEADLINE_EXCEEDED"),
}


def _methods() -> list[tuple[str, Descriptor, bool]]:
    found = []
    for path in (name for name, access in ACCESS.items() if "kongflow" in name and access is not Access.ANYONE):
        service, _, name = path.removeprefix("/").partition("/")
        method = descriptor_pool.Default().FindServiceByName(service).FindMethodByName(name)
        found.append((path, method.input_type, bool(method.server_streaming)))
    return found


async def _code_of(caller: Caller, path: str, request: bytes, *, streams: bool) -> str:
    try:
        if streams:
            watching: Any = caller.channel.unary_stream(path)
            watch = watching(request, timeout=0.5)
            await watch.read()
            watch.cancel()
        else:
            call: Any = caller.channel.unary_unary(path)
            await call(request, timeout=10)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(900)
async def test_fuzzed_calls_are_refused_and_leave_nothing_behind(
    stage: Stage, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    random = Random(20260)  # noqa: S311 - the same calls every time
    stored = await stage.store_endpoint()
    known = [stage.ours.development.id, stage.ours.project_id, stage.ours.organization_id, stored.id]
    callers = [stage.writer, stage.admin, stage.worker, stage.developer]
    methods = _methods()
    codes: Counter[str] = Counter()
    wrong: Counter[tuple[str, str]] = Counter()
    permits = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        path, descriptor, streams = random.choice(methods)
        request, caller = fuzzed_request(random, descriptor, known), random.choice(callers)
        async with permits:
            code = await _code_of(caller, path, request, streams=streams)
        codes[code] += 1
        if code not in REFUSALS:
            wrong[path, code] += 1

    async def connections() -> int:
        count: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        )
        return count

    # The first calls open every connection and fill every cache that there is.
    await asyncio.gather(*(one() for _ in range(CALLS // 3)))
    tasks, memory = len(asyncio.all_tasks()), _resident_bytes()
    await asyncio.gather(*(one() for _ in range(CALLS - CALLS // 3)))

    assert wrong == {}
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "PERMISSION_DENIED"} <= set(codes)
    assert codes["DEADLINE_EXCEEDED"] < CALLS / 20
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks + 2)
    assert await connections() <= 40
    assert _resident_bytes() - memory < MOST_GROWTH_BYTES
