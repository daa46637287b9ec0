"""`kongflow up`: real processes, from the first start to the last one gone."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import urllib.request
from typing import TYPE_CHECKING

import psutil
import pytest

from services.embedded.postgres import EmbeddedPostgres
from services.embedded.redis import EmbeddedRedis
from tests.support.command import running_up, started_up, still_running
from tests.support.eventually import eventually
from tests.support.servers import reachable_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.command import RunningUp

pytestmark = pytest.mark.acceptance

# What looks at one stack runs in one process.
in_one_process = pytest.mark.xdist_group("up")

SECRET_FILES = (
    "admin-token",
    "api-key",
    "database-url",
    "lookup-pepper",
    "secret-keys",
    "service-token",
    "signing-secret",
    "worker-token",
)


@pytest.fixture(scope="module")
def up() -> Iterator[RunningUp]:
    """A stack that several tests look at, which is ended as by Ctrl-C and has to leave nothing behind."""
    with reachable_directory() as directory, running_up(directory) as running:
        yield running
        family = running.family
        # The command, both services, Redis, and PostgreSQL with its own children.
        assert len(family) > 5
        assert running.end(signal.SIGINT) == 0
        assert still_running(family) == []


@in_one_process
def test_everything_answers(up: RunningUp) -> None:
    assert up.run_json("endpoints", "list")["endpoints"] == []
    assert {token["kind"] for token in up.run_json("tokens", "list")["tokens"]} == {
        "TOKEN_KIND_SERVICE",
        "TOKEN_KIND_WORKER",
    }
    with urllib.request.urlopen(f"{up.ready['http_url']}/readyz", timeout=5) as answer:  # noqa: S310 - our own
        assert answer.status == 200
    for name in SECRET_FILES:
        assert stat.S_IMODE((up.directory / name).stat().st_mode) == 0o600, name


def test_second_start_finds_the_data_and_the_credentials_of_the_first(directory: Path) -> None:
    with running_up(directory) as first:
        created = first.run_json("tokens", "create", "--kind", "service", "--name", "remembered", "--scope", "read")
        token, environment_id = created["secret"], first.ready["environment_id"]
        assert first.end(signal.SIGTERM) == 0
    with running_up(directory) as second:
        assert second.ready["environment_id"] == environment_id
        assert second.run_json("endpoints", "list", "--token", token)["endpoints"] == []
        names = [one["name"] for one in second.run_json("tokens", "list")["tokens"]]
        assert names == ["development", "development", "remembered"]


@in_one_process
def test_refusal_reaches_the_caller_as_a_sentence_with_its_reason(up: RunningUp) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        refused = up.run("endpoints", "create", "nobody", f"http://127.0.0.1:{nobody.getsockname()[1]}/api")
        assert refused.returncode == 1
        assert "Could not connect to endpoint" in refused.stderr
        assert "[FAILED_PING]" in refused.stderr


def test_taken_port_is_one_clear_sentence(directory: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with started_up(directory, KONGFLOW_GRPC_ADDRESS=address) as process:
            _, said = process.communicate(timeout=120)
    assert process.returncode == 1
    assert json.loads(said)["error"]["message"].startswith(f"The endpoints service (gRPC) cannot listen on {address}")


@in_one_process
def test_second_up_in_the_same_directory_is_refused(up: RunningUp) -> None:
    with started_up(up.directory) as second:
        _, said = second.communicate(timeout=120)
    assert second.returncode == 1
    assert f"Another KongFlow is using {up.directory}" in json.loads(said)["error"]["message"]


def test_wrong_variables_are_all_named_before_anything_starts(directory: Path) -> None:
    wrong = {"KONGFLOW_LEASE_SECONDS": "soon", "KONGFLOW_WORKER_QUEUES": "all"}
    with started_up(directory, **wrong) as process:
        _, said = process.communicate(timeout=120)
    assert process.returncode == 2
    named = {violation["field"] for violation in json.loads(said)["error"]["violations"]}
    assert named == set(wrong)
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("step", ["Starting Redis", "Starting the endpoints service", "Starting the worker"])
def test_signal_during_the_start_leaves_nothing_behind(directory: Path, step: str) -> None:
    with started_up(directory, "--grpc-address=127.0.0.1:0") as process:
        family = _family_at(process, step)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert still_running(family) == []


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        ("services.endpoints", "The endpoints process ended (signal 9): "),
        ("bin/postgres", "PostgreSQL ended (signal 9): "),
        ("redis-server", "Redis ended (signal 9): "),
    ],
)
async def test_killed_member_ends_everything_with_a_sentence(directory: Path, member: str, sentence: str) -> None:
    with running_up(directory) as up:
        family = up.family
        up.member(member).kill()
        _, said = up.process.communicate(timeout=120)
        assert up.process.returncode == 1
    assert sentence in said
    assert "(see " in said.partition(sentence)[2]
    await eventually(lambda: not still_running(family))


async def test_signal_while_a_failed_stack_is_stopping_hides_nothing_and_leaves_nothing(directory: Path) -> None:
    with running_up(directory) as up:
        family = up.family
        server = up.member("services.endpoints")
        server.suspend()
        try:
            up.member("services.worker").kill()
            assert up.process.stderr is not None
            assert up.process.stderr.readline().startswith("Stopping")
            up.process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                up.process.wait(1)
            assert up.member("redis-server").is_running()
        finally:
            server.resume()
        assert up.process.wait(60) == 1
        said = up.process.stderr.read()
    assert "The worker process ended (signal 9)" in said
    assert still_running(family) == []


async def test_killed_command_takes_its_servers_with_it(directory: Path) -> None:
    with running_up(directory) as up:
        family = up.family
        up.process.kill()
        up.process.wait(60)
    await eventually(lambda: not still_running(family))


async def test_servers_given_by_url_are_used_and_left_running(directory: Path) -> None:
    async with EmbeddedPostgres(directory / "theirs") as postgres, EmbeddedRedis(directory / "their-redis") as redis:
        variables = {"KONGFLOW_DATABASE_URL": postgres.url, "KONGFLOW_REDIS_URL": redis.url}
        with running_up(directory / "ours", **variables) as up:
            commands = [" ".join(one.cmdline()) for one in up.family]
            assert not [command for command in commands if "postgres -D" in command or "redis-server" in command]
            assert up.run_json("migrate", "status")["is_current"] is True
            assert up.end() == 0
        assert postgres.pid
        assert redis.pid


def _family_at(process: subprocess.Popen[str], step: str) -> list[psutil.Process]:
    """Read what the command says until it begins `step`, and return all its processes."""
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith(step):
            parent = psutil.Process(process.pid)
            return [parent, *parent.children(recursive=True)]
    raise AssertionError(f"it never said {step!r}")
