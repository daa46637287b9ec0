"""The commands of docs/callers.md against a running server."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.command import ROOT
from tests.support.grpcurl import installed_grpcurl
from tests.support.readme import Block, blocks_of
from tests.support.rpc import new_tenant, running_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

BLOCKS = blocks_of(ROOT / "docs" / "callers.md")


@pytest.fixture
async def server(database_url: str) -> AsyncIterator[tuple[str, str]]:
    async with running_service(database_url) as service:
        yield service.address, (await new_tenant(service, "guide")).development_key


async def test_every_command_works(server: tuple[str, str]) -> None:
    address, key = server
    said = [await _run(block, address=address, key=key) for block in BLOCKS]
    assert "kongflow.v1.EventService" in said[0]
    assert said[1].count('"user-7"') == 2
    assert '{"id": 8}' in said[-1]


async def _run(block: Block, *, address: str, key: str) -> str:
    path = os.environ["PATH"]
    if "grpcurl" in block.words:
        path = f"{installed_grpcurl().parent}{os.pathsep}{path}"
    process = await asyncio.create_subprocess_exec(
        *("/bin/sh", "-e", "-c", block.commands.replace("127.0.0.1:50051", address)),
        cwd=ROOT,
        env={"PATH": path, "KONGFLOW_TOKEN": key, "KONGFLOW_TARGET": address},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, output.decode()
    return output.decode()
