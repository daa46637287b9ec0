"""Ports for the processes of a test."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import suppress
from typing import Final

_FIRST_PORT: Final = 20_000
_LAST_PORT: Final = 32_000
_WORKERS: Final = 8


def free_ports(count: int) -> list[int]:
    """Return different ports that nobody uses.

    They are below those that the system gives to outgoing connections, one of which would take a port before the
    process that it is for, and each process of a test run has ports of its own.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = range(_FIRST_PORT + worker % _WORKERS, _LAST_PORT, _WORKERS)
    free: list[int] = []
    while len(free) < count:
        port = secrets.choice(own)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in free:
                free.append(port)
    return free
