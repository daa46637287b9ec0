from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import psutil
import pytest
import redis.asyncio

from services.embedded import directory as directories
from services.embedded import ports
from services.embedded import postgres as embedded_postgres
from services.embedded.directory import DirectoryLock, unprivileged_identity
from services.embedded.ports import free_port
from services.embedded.postgres import EmbeddedPostgres
from services.embedded.process import EmbeddedServerError, ServerProcess
from services.embedded.redis import EmbeddedRedis
from tests.support.eventually import eventually
from tests.support.servers import THROWAWAY_SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's server needs another user")

# Starts both servers, says who they are, and waits for its end.
PARENT = """
import asyncio, sys
from pathlib import Path
from services.embedded.postgres import EmbeddedPostgres
from services.embedded.redis import EmbeddedRedis

async def main(directory):
    async with EmbeddedPostgres(directory / "postgres") as postgres, EmbeddedRedis(directory / "redis") as redis:
        print(postgres.pid, redis.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


@pytest.fixture
def server(directory: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(directory / "postgres", settings=THROWAWAY_SETTINGS)


@pytest.fixture
def closed_directory(tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that only we may enter, on a machine whose place for system data is `directory`."""
    monkeypatch.setattr(directories, "SYSTEM_DATA_HOME", directory)
    tmp_path.chmod(0o700)
    return tmp_path


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_postgres_data_survives_a_restart(server: EmbeddedPostgres) -> None:
    async with server:
        await fetch(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    async with server:
        assert await fetch(server.url, "SELECT answer FROM kept") == 42


async def test_postgres_wants_its_password(server: EmbeddedPostgres) -> None:
    async with server:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await fetch(f"postgresql://kongflow:wrong@127.0.0.1:{server.port}/kongflow", "SELECT 1")


async def test_postgres_password_is_readable_by_its_owner_only(server: EmbeddedPostgres, directory: Path) -> None:
    async with server:
        mode = (directory / "postgres" / "password").stat().st_mode

    assert stat.S_IMODE(mode) == 0o600
    assert not (directory / "postgres" / "initial-password").exists()


async def test_postgres_listens_on_loopback_tcp_only(server: EmbeddedPostgres) -> None:
    async with server:
        listening = {
            connection.laddr
            for connection in psutil.Process(server.pid).net_connections("all")
            if connection.status == psutil.CONN_LISTEN or connection.family == socket.AF_UNIX
        }

    assert listening == {("127.0.0.1", server.port)}


async def test_postgres_takes_our_settings_at_every_start(directory: Path) -> None:
    for wanted in (17, 23):
        async with EmbeddedPostgres(
            directory / "postgres", max_connections=wanted, settings=THROWAWAY_SETTINGS
        ) as server:
            assert await fetch(server.url, "SHOW max_connections") == str(wanted)


async def test_refused_setting_is_one_clear_sentence(directory: Path) -> None:
    server = EmbeddedPostgres(directory / "postgres", settings={**THROWAWAY_SETTINGS, "shared_buffers": "much"})

    with pytest.raises(EmbeddedServerError, match=r'^PostgreSQL did not start: .*"shared_buffers".*$'):
        await server.start()


@pytest.mark.skipif(sys.platform != "linux", reason="others have no such scheduling")
async def test_postgres_interrupts_nobody_when_it_is_woken(server: EmbeddedPostgres) -> None:
    async with server:
        connection = await asyncpg.connect(server.url)
        backend = connection.get_server_pid()
        policies = {os.sched_getscheduler(pid) for pid in (server.pid, backend)}
        await connection.close()

    assert policies == {os.SCHED_BATCH}


@as_root
async def test_postgres_of_root_runs_as_an_unprivileged_user(server: EmbeddedPostgres) -> None:
    identity = unprivileged_identity()
    assert identity is not None
    async with server:
        process = psutil.Process(server.pid)
        users, groups, data = process.uids(), process.gids(), server.data_directory.stat()
        status = Path(f"/proc/{server.pid}/status").read_text()

    assert set(users) == {identity.user_id}
    assert set(groups) == {identity.group_id}
    assert "Groups:\t \n" in status
    assert data.st_uid == identity.user_id
    assert stat.S_IMODE(data.st_mode) == 0o700


@as_root
async def test_data_of_a_closed_directory_lives_elsewhere_and_is_found_again(closed_directory: Path) -> None:
    server = EmbeddedPostgres(closed_directory / "postgres", settings=THROWAWAY_SETTINGS)
    async with server:
        await fetch(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    again = EmbeddedPostgres(closed_directory / "postgres", settings=THROWAWAY_SETTINGS)
    async with again:
        assert await fetch(again.url, "SELECT answer FROM kept") == 42

    assert not again.data_directory.is_relative_to(closed_directory)
    assert stat.S_IMODE(closed_directory.stat().st_mode) == 0o700


@as_root
async def test_data_elsewhere_goes_when_its_directory_went(closed_directory: Path) -> None:
    server = EmbeddedPostgres(closed_directory / "postgres", settings=THROWAWAY_SETTINGS)
    async with server:
        await fetch(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    (closed_directory / "postgres" / "password").unlink()

    async with server:
        assert await fetch(server.url, "SELECT to_regclass('kept')") is None


@as_root
async def test_binaries_that_its_user_cannot_read_are_copied_once(
    closed_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_postgres, "can_reach", lambda *_: False)
    server = EmbeddedPostgres(closed_directory / "postgres", settings=THROWAWAY_SETTINGS)
    async with server:
        first = psutil.Process(server.pid).exe()
        written = Path(first).stat().st_ctime_ns
    async with server:
        second = psutil.Process(server.pid).exe()

    assert first.startswith(str(directories.SYSTEM_DATA_HOME))
    assert (second, Path(second).stat().st_ctime_ns) == (first, written)


@as_root
async def test_folder_of_someone_else_is_not_trusted(closed_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(closed_directory))
    for parent in (directories.SYSTEM_DATA_HOME, closed_directory):
        (parent / "kongflow").mkdir()
        os.chown(parent / "kongflow", 1234, 1234)

    with pytest.raises(EmbeddedServerError, match=r"^Neither \S+ nor \S+ can be made by us\.$"):
        await EmbeddedPostgres(closed_directory / "postgres").start()


async def test_data_of_another_version_is_left_alone(server: EmbeddedPostgres) -> None:
    async with server:
        version = server.data_directory / "PG_VERSION"
    version.write_text("17\n")

    with pytest.raises(EmbeddedServerError, match="was written by PostgreSQL 17 and this is PostgreSQL 18"):
        await server.start()
    assert version.read_text() == "17\n"


async def test_process_id_of_a_dead_server_is_forgotten(server: EmbeddedPostgres) -> None:
    async with server:
        os.kill(server.pid, signal.SIGKILL)
        assert await server.ended() == -signal.SIGKILL
        assert (server.data_directory / "postmaster.pid").exists()

    async with server:
        assert await fetch(server.url, "SELECT 1") == 1


async def test_process_id_of_a_stranger_does_not_stop_a_start(server: EmbeddedPostgres) -> None:
    async with server:
        pid_file = server.data_directory / "postmaster.pid"
        identity = pid_file.stat()
    stranger = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    pid_file.write_text(f"{stranger.pid}\n{server.data_directory}\n")
    os.chown(pid_file, identity.st_uid, identity.st_gid)
    try:
        async with server:
            assert await fetch(server.url, "SELECT 1") == 1
        assert stranger.returncode is None
    finally:
        await stranger.communicate(b"\n")


async def test_server_that_outlived_its_parent_is_ended_first(server: EmbeddedPostgres) -> None:
    await server.start()
    orphan = psutil.Process(server.pid)
    server._lock.release()  # as the kernel does when the parent dies

    async with EmbeddedPostgres(server.data_directory.parent, settings=THROWAWAY_SETTINGS) as successor:
        assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE
        assert await fetch(successor.url, "SELECT 1") == 1
    await server.stop()


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedRedis])
async def test_directory_in_use_is_one_clear_sentence(
    kind: type[EmbeddedPostgres | EmbeddedRedis], directory: Path
) -> None:
    lock = DirectoryLock(directory)
    lock.acquire()
    try:
        with pytest.raises(EmbeddedServerError) as refusal:
            await kind(directory).start()
    finally:
        lock.release()

    assert str(refusal.value) == (f"Another KongFlow is using {directory}: stop it, or choose another directory.")


@pytest.mark.parametrize(("kind", "name"), [(EmbeddedPostgres, "PostgreSQL"), (EmbeddedRedis, "Redis")])
async def test_port_in_use_is_one_clear_sentence(
    kind: type[EmbeddedPostgres | EmbeddedRedis], name: str, directory: Path, taken_port: int
) -> None:
    with pytest.raises(EmbeddedServerError) as refusal:
        await kind(directory, port=taken_port).start()

    assert str(refusal.value) == (
        f"{name} cannot listen on 127.0.0.1:{taken_port} (address already in use): "
        "stop what uses that port, or choose another one."
    )


@pytest.mark.parametrize("kind", [EmbeddedPostgres, EmbeddedRedis])
async def test_stopping_twice_or_before_a_start_does_nothing(
    kind: type[EmbeddedPostgres | EmbeddedRedis], directory: Path
) -> None:
    server = kind(directory)
    await server.stop()
    async with server:
        process = psutil.Process(server.pid)
    await server.stop()

    assert not process.is_running()
    with pytest.raises(EmbeddedServerError, match="is not running"):
        _ = server.pid


async def test_redis_wants_its_password_and_keeps_nothing(directory: Path) -> None:
    server = EmbeddedRedis(directory)
    async with server:
        client = redis.asyncio.Redis.from_url(server.url)
        await client.set("key", "value")
        await client.aclose()
        stranger = redis.asyncio.Redis(host="127.0.0.1", port=server.port)
        with pytest.raises(redis.exceptions.AuthenticationError):
            await stranger.ping()
        await stranger.aclose()
    async with server:
        client = redis.asyncio.Redis.from_url(server.url)
        assert await client.get("key") is None
        await client.aclose()


async def test_redis_keeps_what_its_settings_ask_for(directory: Path) -> None:
    server = EmbeddedRedis(directory, settings={"appendonly": "yes"})
    for expected in (None, b"value"):
        async with server, redis.asyncio.Redis.from_url(server.url) as client:
            assert await client.get("key") == expected
            await client.set("key", "value")


async def test_refused_redis_setting_is_one_clear_sentence(directory: Path) -> None:
    with pytest.raises(EmbeddedServerError, match=r"^Redis did not start: .*$"):
        await EmbeddedRedis(directory, settings={"no-such-setting": "1"}).start()


async def test_killed_parent_leaves_no_children_and_a_directory_that_starts_again(directory: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(directory), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    said = await parent.stdout.readline()
    servers = [psutil.Process(int(pid)) for pid in said.split()]
    family = [process for server in servers for process in (server, *server.children(recursive=True))]
    parent.kill()
    await parent.communicate()

    async with EmbeddedPostgres(directory / "postgres") as postgres, EmbeddedRedis(directory / "redis"):
        assert await fetch(postgres.url, "SELECT 1") == 1
    await eventually(lambda: not any(process.is_running() for process in family))


async def test_cancelled_start_that_failed_before_stops_its_process_and_says_why(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedRedis(directory)
    is_stopping = asyncio.Event()

    async def fail() -> bool:
        os.kill(server.pid, signal.SIGSTOP)
        is_stopping.set()
        raise EmbeddedServerError("It failed.")

    monkeypatch.setattr(server, "_is_ready", fail)
    start = asyncio.create_task(server.start())
    await is_stopping.wait()
    pid = server.pid
    start.cancel()
    os.kill(pid, signal.SIGCONT)

    with pytest.raises(EmbeddedServerError, match=r"^It failed\.$"):
        await start
    assert not psutil.pid_exists(pid)


async def test_cancelled_stop_is_a_cancellation_once_the_process_is_gone(directory: Path) -> None:
    program = [sys.executable, "-c", "import signal; signal.pause()"]
    process = ServerProcess(program, log=directory / "log", stop_signal=signal.SIGTERM)
    os.kill(process.pid, signal.SIGSTOP)
    is_stopping = asyncio.Event()

    async def restart() -> None:
        is_stopping.set()
        await process.stop(grace=timedelta(minutes=1))
        await asyncio.Event().wait()

    restarting = asyncio.create_task(restart())
    await is_stopping.wait()
    restarting.cancel()
    os.kill(process.pid, signal.SIGCONT)

    with pytest.raises(asyncio.CancelledError):
        await restarting
    assert process.has_ended
    assert restarting.cancelling() == 1


def test_free_port_is_one_that_nobody_has_or_was_given() -> None:
    given = free_port()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        for port in (given, listener.getsockname()[1]):
            with pytest.raises(EmbeddedServerError, match="is free"):
                free_port(range(port, port + 1))


def test_processes_that_look_for_ports_at_the_same_time_find_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def found_by(process: int) -> set[int]:
        monkeypatch.setattr(os, "getpid", lambda: process)
        monkeypatch.setattr(ports, "_given", set())
        return {ports.free_port() for _ in range(8)}

    assert not found_by(4_000) & found_by(4_001)
