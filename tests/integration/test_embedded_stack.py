"""The embedded stack as tests, the demo and measurements use it: killed, restarted, and with parts of it lost."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import grpc
import pytest
from kongflow.v1 import endpoint_service_pb2, endpoint_service_pb2_grpc

from cli.__main__ import main
from services.embedded.process import EmbeddedServerError
from services.embedded.service import last_words
from services.embedded.up import Stack, StackSettings, running_stack
from tests.support.certificates import Authority
from tests.support.command import kongflow
from tests.support.eventually import eventually
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.signed_calls import signed_by

if TYPE_CHECKING:
    from collections.abc import Callable

ON_FREE_PORTS = ("--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0")


@pytest.fixture
def servers(database_url: str, redis_url: str) -> dict[str, str]:
    """Servers that are there already, which saves starting others."""
    return {"KONGFLOW_DATABASE_URL": database_url, "KONGFLOW_REDIS_URL": redis_url}


async def listed(stack: Stack, token: str) -> int:
    """Return how many endpoints a credential sees in the development environment."""
    async with stack.channel() as channel:
        stub = endpoint_service_pb2_grpc.EndpointServiceStub(channel)
        request = endpoint_service_pb2.ListEndpointsRequest(environment_id=stack.environment_id)
        response = await stub.ListEndpoints(request, metadata=(("authorization", f"Bearer {token}"),), timeout=10)
        return len(response.endpoints)


async def test_services_come_back_on_the_same_addresses_after_a_crash_and_after_a_restart(
    directory: Path, servers: dict[str, str]
) -> None:
    async with running_stack(StackSettings(directory=directory, variables=servers)) as stack:
        target, first_server, first_worker = stack.grpc_target, stack.server.pid, stack.worker.pid
        await stack.kill_worker()
        await stack.kill_server()
        with pytest.raises(grpc.aio.AioRpcError):
            await listed(stack, stack.service_token)
        await stack.start_server()
        stack.start_worker()
        assert await listed(stack, stack.service_token) == 0
        await stack.restart_worker()
        await stack.restart_server()
        assert await listed(stack, stack.api_key) == 0
        assert stack.grpc_target == target
        assert stack.server.pid != first_server
        assert stack.worker.pid != first_worker
        await eventually(lambda: "worker_started" in stack.worker.log.read_text())


async def test_steps_are_told_in_their_order(directory: Path) -> None:
    steps: list[str] = []
    async with running_stack(StackSettings(directory=directory, on_step=steps.append)):
        assert [step.split()[-1] for step in steps] == [
            "PostgreSQL",
            "Redis",
            "database",
            "service",
            "environment",
            "worker",
        ]


async def test_lost_files_are_made_again_for_the_same_environment(directory: Path, servers: dict[str, str]) -> None:
    async with running_stack(StackSettings(directory=directory, variables=servers)) as stack:
        environment_id, old_key, old_secret = stack.environment_id, stack.api_key, stack.signing_secret
    (directory / "api-key").unlink()
    (directory / "signing-secret").unlink()
    (directory / "worker-token").unlink()
    async with running_stack(StackSettings(directory=directory, variables=servers)) as stack:
        assert stack.environment_id == environment_id
        assert stack.api_key != old_key
        assert stack.signing_secret != old_secret
        assert (directory / "signing-secret").read_text() == stack.signing_secret
        assert await listed(stack, stack.api_key) == 0


async def test_lost_state_means_another_environment_beside_the_old_one(
    directory: Path, servers: dict[str, str]
) -> None:
    async with running_stack(StackSettings(directory=directory, variables=servers)) as stack:
        environment_id, old_token = stack.environment_id, stack.service_token
    (directory / "development.json").unlink()
    async with running_stack(StackSettings(directory=directory, variables=servers)) as stack:
        assert stack.environment_id != environment_id
        assert stack.service_token != old_token
        assert await listed(stack, stack.service_token) == 0


@pytest.mark.parametrize("text", ["{", "[1]"])
async def test_broken_state_ends_the_start_with_a_sentence(directory: Path, servers: dict[str, str], text: str) -> None:
    (directory / "development.json").write_text(text)
    with pytest.raises(EmbeddedServerError, match="cannot be read as JSON: move it away"):
        async with running_stack(StackSettings(directory=directory, variables=servers)):
            pass


async def test_another_database_means_another_environment(directory: Path, servers: dict[str, str]) -> None:
    async with running_stack(StackSettings(directory=directory)) as stack:
        environment_id = stack.environment_id
    async with running_stack(StackSettings(directory=directory, variables=servers)) as stack:
        assert stack.environment_id != environment_id
        assert stack.database_url == servers["KONGFLOW_DATABASE_URL"]
        assert await listed(stack, stack.service_token) == 0


async def test_calls_are_signed_with_the_secret_that_is_kept_beside_the_other_credentials(
    directory: Path, servers: dict[str, str]
) -> None:
    async with (
        running_stack(StackSettings(directory=directory, variables=servers)) as stack,
        FakeEndpoint(api_key=stack.api_key) as endpoint,
        stack.channel() as channel,
    ):
        stub = endpoint_service_pb2_grpc.EndpointServiceStub(channel)
        request = endpoint_service_pb2.CreateEndpointRequest(
            environment_id=stack.environment_id, slug=endpoint.slug, url=endpoint.url
        )
        await stub.CreateEndpoint(request, metadata=(("authorization", f"Bearer {stack.service_token}"),), timeout=10)
    assert signed_by(endpoint.journal[0], (directory / "signing-secret").read_text())


async def test_variables_about_tls_are_for_other_servers_and_do_not_reach_the_stack(
    directory: Path, servers: dict[str, str], tmp_path: Path
) -> None:
    authority = Authority(tmp_path, "ours")
    pair = authority.issue("server")
    config = tmp_path / "kongflow.yaml"
    config.write_text(f"tls_certificate_file: {pair.certificate}\ntls_key_file: {pair.key}\n")
    shell = {"KONGFLOW_CONFIG": str(config), "KONGFLOW_TLS_CA_FILE": str(authority.file)}
    async with running_stack(StackSettings(directory=directory, variables={**servers, **shell})) as stack:
        assert await listed(stack, stack.service_token) == 0
        await eventually(lambda: "server_answers" in stack.worker.log.read_text())


async def test_file_of_settings_is_found_from_the_folder_of_the_shell(
    directory: Path, servers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kongflow.yaml").write_text("log_level: error\n")
    monkeypatch.chdir(tmp_path)
    shell = {"KONGFLOW_CONFIG": "kongflow.yaml"}
    async with running_stack(StackSettings(directory=directory, variables={**servers, **shell})) as stack:
        assert await listed(stack, stack.service_token) == 0


async def test_given_secrets_are_used_and_the_admin_token_is_kept_for_the_command_line(
    directory: Path, servers: dict[str, str]
) -> None:
    variables = {
        "KONGFLOW_ADMIN_TOKEN": "given-" + "a" * 30,
        "KONGFLOW_SECRET_KEYS": "11" * 32,
        "KONGFLOW_LOOKUP_PEPPER": "22" * 32,
    }
    async with running_stack(StackSettings(directory=directory, variables={**servers, **variables})) as stack:
        assert stack.admin_token == variables["KONGFLOW_ADMIN_TOKEN"]
        assert (directory / "admin-token").read_text() == stack.admin_token
        assert not (directory / "secret-keys").exists()


async def test_service_that_ends_at_its_start_is_told_with_its_last_words(
    directory: Path, servers: dict[str, str]
) -> None:
    wrong = StackSettings(directory=directory, variables={**servers, "KONGFLOW_LEASE_SECONDS": "never"})
    with pytest.raises(EmbeddedServerError, match=r"The endpoints process ended \(exit code 2\): .*KONGFLOW_LEASE"):
        async with running_stack(wrong):
            pytest.fail("it must not start")


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:http"])
async def test_address_without_a_port_is_refused(directory: Path, address: str) -> None:
    with pytest.raises(EmbeddedServerError, match="needs an address of the form host:port"):
        async with running_stack(StackSettings(directory=directory, grpc_address=address)):
            pytest.fail("it must not start")


async def test_database_that_is_away_is_told_in_one_sentence(directory: Path) -> None:
    variables = {
        "KONGFLOW_DATABASE_URL": "postgresql://127.0.0.1:1/none",
        "KONGFLOW_REDIS_URL": "redis://127.0.0.1:1/0",
    }
    with pytest.raises(EmbeddedServerError, match="The database cannot be reached"):
        async with running_stack(StackSettings(directory=directory, variables=variables)):
            pytest.fail("it must not start")


async def test_database_url_that_the_driver_refuses_is_told_in_one_sentence(directory: Path) -> None:
    variables = {"KONGFLOW_DATABASE_URL": "postgresql://127.0.0.1:1/none?sslmode=maybe", "KONGFLOW_REDIS_URL": "redis:"}
    with pytest.raises(EmbeddedServerError, match="The database cannot be migrated: `sslmode` parameter must be"):
        async with running_stack(StackSettings(directory=directory, variables=variables)):
            pytest.fail("it must not start")


async def test_database_of_a_newer_release_is_told_in_one_sentence(
    directory: Path, database_url: str, redis_url: str
) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE alembic_version SET version_num = '9999'")
    await connection.close()
    variables = {
        "KONGFLOW_DIRECTORY": str(directory),
        "KONGFLOW_DATABASE_URL": database_url,
        "KONGFLOW_REDIS_URL": redis_url,
    }
    ended = await asyncio.to_thread(kongflow, "up", *ON_FREE_PORTS, variables=variables)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        "The database has a schema that this release does not know (Can't locate revision identified by '9999'): "
        "start the newer release that wrote it, or choose another directory or database."
    )
    assert "Traceback" not in ended.stderr


def test_directory_of_another_user_is_told_in_one_sentence(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # What the system says to a user after somebody else's start; the tests may run as root, who may open everything.
    def refused(path: Path) -> Path:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    _open_instead(monkeypatch, "lock", refused)
    assert main(["up", "--directory", str(directory), *ON_FREE_PORTS]) == 1
    assert capfd.readouterr().err == (
        f"KongFlow cannot start in {directory} ({directory / 'lock'}: permission denied): "
        "make it and what it holds yours, or choose another directory.\n"
    )


def test_full_disk_is_told_in_one_sentence(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KONGFLOW_DATABASE_URL", raising=False)
    _open_instead(monkeypatch, "password.new", lambda _: Path("/dev/full"))
    assert main(["up", "--directory", str(directory), *ON_FREE_PORTS]) == 1
    assert capfd.readouterr().err.splitlines()[-1] == (
        f"KongFlow cannot start in {directory} (no space left on device): make room, or choose another directory."
    )


@pytest.mark.parametrize(("below", "reason"), [("", "file exists"), ("under/it", "not a directory")])
def test_directory_that_is_a_file_is_told_in_one_sentence(tmp_path: Path, below: str, reason: str) -> None:
    file = tmp_path / "file"
    file.touch()
    directory = file / below
    ended = kongflow("up", *ON_FREE_PORTS, variables={"KONGFLOW_DIRECTORY": str(directory)})
    assert ended.returncode == 1
    assert ended.stderr == f"KongFlow cannot start in {directory} ({reason}): choose another directory.\n"


def _open_instead(monkeypatch: pytest.MonkeyPatch, name: str, other: Callable[[Path], Path]) -> None:
    """Have `os.open` open `other(path)`, whenever `path` has this name."""
    open_really = os.open

    def opened(path: Any, *arguments: Any, **more: Any) -> int:
        is_meant = isinstance(path, Path) and path.name == name
        return open_really(other(path), os.O_WRONLY) if is_meant else open_really(path, *arguments, **more)

    monkeypatch.setattr(os, "open", opened)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"event": "started"}\n{"event": "failed"}\n\n', "failed (see "),
        ('{"event": "started"}\nplain words\n', "plain words"),
        ("[1]\n", "see "),
        ("", "see "),
    ],
)
def test_last_words_of_a_log_are_a_sentence(directory: Path, text: str, words: str) -> None:
    log = directory / "service.log"
    log.write_text(text)
    assert last_words(log).startswith(words)


def test_up_in_this_process_shows_what_is_where_and_ends_with_a_signal(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("KONGFLOW_DATABASE_URL", "KONGFLOW_REDIS_URL"):
        monkeypatch.delenv(name, raising=False)
    wait_for_an_end = Stack.first_end

    async def interrupted(stack: Stack) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        return await wait_for_an_end(stack)

    monkeypatch.setattr(Stack, "first_end", interrupted)
    assert main(["up", "--directory", str(directory), *ON_FREE_PORTS]) == 0
    out, err = capfd.readouterr()
    assert "KongFlow is up" in out
    assert "grpcurl -plaintext" in out
    assert "Stopping" in err
