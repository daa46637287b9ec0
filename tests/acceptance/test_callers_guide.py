"""The commands of docs/callers.md against running services, and an endpoint that answers them."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.absence import skip
from tests.support.command import ROOT, environment
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.go_build import GO_FLAGS
from tests.support.grpcurl import installed_grpcurl
from tests.support.pair import running_pair
from tests.support.readme import Block, blocks_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900)]

BLOCKS = blocks_of(ROOT / "docs" / "callers.md")
LANGUAGES = ("node", "go")
# What the programs import and read; what they make stays in the folder of the test.
SEEN = ("gen", ".venv")
COPIED = ("examples/clients", "protos")
WITHIN_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Reader:
    """Runs the guide's blocks as somebody who has a server, an API key and an endpoint of their own."""

    folder: Path
    target: str
    api_key: str
    endpoint_url: str

    async def run(self, block: Block) -> str:
        """Run a block to its end and return what it printed."""
        commands = block.commands.replace("127.0.0.1:50051", self.target)
        variables = environment(
            KONGFLOW_TOKEN=self.api_key,
            KONGFLOW_TARGET=self.target,
            GOFLAGS=GO_FLAGS,
        )
        # A reader has nothing of KongFlow on the path of Python.
        del variables["PYTHONPATH"]
        if "grpcurl" in block.words:
            variables["PATH"] = f"{installed_grpcurl().parent}{os.pathsep}{variables['PATH']}"
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-e", "-c", commands.replace("http://127.0.0.1:3030/api/trigger", self.endpoint_url)),
            cwd=self.folder,
            env=variables,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), WITHIN_SECONDS)
        said = output.decode()
        assert (process.returncode != 0) is ("fails" in block.words), f"{commands}{said}"
        return said


@pytest.fixture
async def reader(database_url: str, redis_url: str, directory: Path) -> AsyncIterator[Reader]:
    for name in SEEN:
        (directory / name).symlink_to(ROOT / name)
    for name in COPIED:
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("node_modules", "gen"))
    shutil.copyfile(ROOT / "buf.yaml", directory / "buf.yaml")
    async with running_pair(database_url=database_url, redis_url=redis_url) as pair:
        tenant = await pair.new_tenant()
        async with FakeEndpoint(api_key=tenant.api_key, slug="bookshop") as endpoint:
            yield Reader(directory, pair.grpc_target, tenant.api_key, endpoint.url)


def blocks_in(language: str | None) -> list[Block]:
    others = set(LANGUAGES) - {language}
    return [block for block in BLOCKS if not block.words & others and (language is None or language in block.words)]


async def test_every_command_works(reader: Reader) -> None:
    blocks = blocks_in(None)
    said = {block.commands: await reader.run(block) for block in blocks}
    listed, described = list(said.values())[:2]
    assert "kongflow.v1.EventService" in listed
    assert described.count('"user-7"') == 2
    [sent] = [output for commands, output in said.items() if "send_event.py" in commands]
    assert '{"id": 8}' in sent
    assert_registered_and_refused([output for commands, output in said.items() if "endpoints.py" in commands], reader)


@pytest.mark.parametrize(("language", "program"), [("node", "npm"), ("go", "go")])
async def test_programs_in_other_languages_work(reader: Reader, language: str, program: str) -> None:
    if shutil.which(program) is None:
        skip(f"these commands need {program}")
    assert_registered_and_refused([await reader.run(block) for block in blocks_in(language)], reader)


def test_every_block_is_run_by_one_of_these_tests() -> None:
    assert {word for block in BLOCKS for word in block.words} == {"grpcurl", "fails", *LANGUAGES}
    assert all(len(blocks_in(language)) == 2 for language in LANGUAGES)


def assert_registered_and_refused(said: list[str], reader: Reader) -> None:
    registered, refused = said
    assert "created bookshop\n" in registered
    assert f"bookshop HEALTHY {reader.endpoint_url}\n" in registered
    assert "refused: INVALID_REQUEST: " in refused
    assert "\n  url: " in refused
