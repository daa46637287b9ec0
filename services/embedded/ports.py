"""Loopback ports."""

from __future__ import annotations

import os
import socket
from typing import Final

from services.embedded.process import EmbeddedServerError

LOOPBACK: Final = "127.0.0.1"

# Below the ports that systems give to outgoing connections, one of which could take a port before its user does.
_CHOICE: Final = range(20_000, 26_000)
_PORTS_OF_A_PROCESS: Final = 16

_given: Final[set[int]] = set()


def free_port(among: range = _CHOICE) -> int:
    """Return a loopback port that nobody listens on now; another process may still take it before its user does.

    This process is given none twice: who has one may not listen on it yet. Processes that look at the same time begin
    in different places, for the same reason.

    Raises:
        EmbeddedServerError: none was found among those.
    """
    first = os.getpid() * _PORTS_OF_A_PROCESS
    for number in range(first, first + len(among)):
        port = among[number % len(among)]
        if port not in _given and _is_free(port):
            _given.add(port)
            return port
    raise EmbeddedServerError(f"No port between {among[0]} and {among[-1]} is free: end some of what listens on them.")


def require_free_port(port: int, *, server: str) -> None:
    """Check that `server` could listen on loopback `port`, which `free_port` does not return from now on.

    Raises:
        EmbeddedServerError: the port is taken or may not be used.
    """
    _given.add(port)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError as error:
            raise EmbeddedServerError(
                f"{server} cannot listen on {LOOPBACK}:{port} ({(error.strerror or str(error)).lower()}): "
                "stop what uses that port, or choose another one."
            ) from error


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
