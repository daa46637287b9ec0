"""The clock that the tests' limits are held against."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

from tests.support.machine_time import machine_time
from tests.support.passing import lasting

ROOT = Path(__file__).resolve().parents[2]
STANDS_STILL = timedelta(seconds=1)

PROGRAM = """
import time
from tests.support.machine_time import machine_time
began, wall_began = machine_time(), time.monotonic()
print("begun", flush=True)
input()
print(time.monotonic() - wall_began, machine_time() - began)
"""


async def test_time_passes() -> None:
    wall_began, began = asyncio.get_running_loop().time(), machine_time()
    await lasting(timedelta(milliseconds=300))
    passed, wall = machine_time() - began, asyncio.get_running_loop().time() - wall_began
    assert 0.1 < passed <= wall


async def test_what_stands_still_is_no_time() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM), cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        assert await process.stdout.readline() == b"begun\n"
        os.kill(process.pid, signal.SIGSTOP)
        await lasting(STANDS_STILL)
        os.kill(process.pid, signal.SIGCONT)
        told, _ = await process.communicate(b"\n")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    wall, machine = map(float, told.split())
    assert wall >= STANDS_STILL.total_seconds()
    assert machine <= wall - STANDS_STILL.total_seconds() + 0.2
