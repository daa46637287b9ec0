"""The commands of the README, of docs/events.md and of docs/operations.md, in their order and on ports of their own."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.absence import skip
from tests.support.command import ROOT, environment
from tests.support.eventually import eventually
from tests.support.grpcurl import installed_grpcurl
from tests.support.made_environment import require_made_environment
from tests.support.ports import free_ports
from tests.support.readme import Block, blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

README: Final = ROOT / "README.md"
PAGES: Final = (README, ROOT / "docs" / "events.md", ROOT / "docs" / "operations.md")
BLOCKS: Final = [block for page in PAGES for block in blocks_of(page)]
TESTS: Final = "make test\n"
# These are run by test_demo.py, which looks at what they print.
DEMOS: Final = ("make demo\n", "make demo-sdk\n")
# What make builds in a checkout is taken from this one, so that nothing is installed twice.
SEEN: Final = (
    *("Makefile", "pyproject.toml", "requirements", "tools", ".venv", "gen", "examples", "cli", "services", "build"),
    *("deploy", "docker-compose.yml", ".dockerignore"),
)
# What a command that keeps running says when it is ready, by its last word.
READY: Final = {"up": "KongFlow is up", "examples.sample_endpoint": "listening on"}
WITHIN: Final = timedelta(seconds=60)


class Shell:
    """Runs blocks as a reader would, but on free ports, so that they disturb nobody."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.grpc_port, self.http_port, self.app_port = free_ports(3)
        self._environment = environment(
            KONGFLOW_GRPC_ADDRESS=f"127.0.0.1:{self.grpc_port}", KONGFLOW_HTTP_ADDRESS=f"127.0.0.1:{self.http_port}"
        )
        # The commands must find their modules as an installed KongFlow does.
        del self._environment["PYTHONPATH"]

    def put_on_path(self, program: Path) -> None:
        self._environment["PATH"] = f"{program.parent}{os.pathsep}{self._environment['PATH']}"

    @property
    def background_log(self) -> str:
        """Return what the commands that keep running have said."""
        return (self._folder / "background.log").read_text()

    def has_said(self, words: str) -> bool:
        return words in self.background_log

    def text_of(self, block: Block) -> str:
        ports = {"50051": self.grpc_port, "8080": self.http_port, "3030": self.app_port}
        return re.sub(r"\b(50051|8080|3030)\b", lambda match: str(ports[match[0]]), block.commands)

    def run(self, block: Block) -> str:
        """Run a block to its end and return what it printed."""
        result = subprocess.run(
            ["/bin/sh", "-e", "-c", self.text_of(block)],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert (result.returncode != 0) is ("fails" in block.words), f"{block.commands}{result.stdout}{result.stderr}"
        return result.stdout + result.stderr

    def start(self, block: Block) -> None:
        """Start a block that keeps running until the test ends, and is then interrupted as by Ctrl-C."""
        self._stack.enter_context(self._running(block))

    @contextmanager
    def _running(self, block: Block) -> Iterator[None]:
        with (self._folder / "background.log").open("ab") as log:
            process = subprocess.Popen(
                ["/bin/sh", "-e", "-c", self.text_of(block)],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            try:
                yield
                assert process.poll() is None, self.background_log
            finally:
                os.killpg(process.pid, signal.SIGINT)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    raise


@pytest.fixture
def shell(directory: Path) -> Iterator[Shell]:
    for name in SEEN:
        if (ROOT / name).exists():
            (directory / name).symlink_to(ROOT / name)
    with ExitStack() as stack:
        yield Shell(directory, stack)


@pytest.mark.acceptance
@pytest.mark.timeout(900)
async def test_every_command_works_in_its_order(shell: Shell) -> None:
    require_made_environment()
    if shutil.which("openssl") is None:
        skip("the commands that try out TLS need openssl")
    shell.put_on_path(installed_grpcurl())
    for block in BLOCKS:
        if block.commands in (TESTS, *DEMOS) or "docker" in block.words:
            continue
        if "background" not in block.words:
            said = shell.run(block)
            assert "fails" not in block.words or "INVALID_REQUEST" in said
            continue
        shell.start(block)
        await eventually(partial(shell.has_said, READY[block.commands.split()[-1]]), within=WITHIN)


@pytest.mark.acceptance
@pytest.mark.timeout(1800)
def test_commands_for_docker_work(shell: Shell, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = (
        subprocess.run(["docker", "compose", "ps"], cwd=ROOT, capture_output=True, check=False)
        if has_docker()
        else None
    )
    if looked is None or looked.returncode != 0:
        pytest.skip("these commands need a Docker daemon and its compose plugin")
    example = (ROOT / ".env.example").read_text()
    filled = re.sub(r"^(?!KONGFLOW_(?:WORKER_TOKEN|EGRESS_ALLOW))(\w+)=$", _with_a_secret, example, flags=re.MULTILINE)
    (directory / ".env").write_text(filled)
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", f"kongflow-readme-{secrets.token_hex(4)}")
    try:
        for block in [block for block in BLOCKS if "docker" in block.words]:
            # Inside the containers the ports are what they are.
            subprocess.run(["/bin/sh", "-e", "-c", block.commands], cwd=directory, check=True)
    finally:
        subprocess.run(["docker", "compose", "down", "--volumes"], cwd=directory, check=True)


def test_every_block_is_run_by_one_of_these_tests() -> None:
    known = {"background", "grpcurl", "node", "docker", "fails"}
    assert len(BLOCKS) > 8
    for block in BLOCKS:
        assert block.words <= known, block
    commands = [block.commands for block in BLOCKS]
    assert [commands.count(command) for command in (TESTS, *DEMOS)] == [1, 1, 1]


def _with_a_secret(match: re.Match[str]) -> str:
    return f"{match[1]}={secrets.token_hex(32)}"


def has_docker() -> bool:
    return shutil.which("docker") is not None
