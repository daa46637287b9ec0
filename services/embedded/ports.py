"""Loopback ports."""

from __future__ import annotations

import secrets
import socket
from typing import Final

from services.embedded.process import EmbeddedServerError

LOOPBACK: Final = "127.0.0.1"

# Below the ports that systems give to outgoing connections, one of which could take a port before its user does.
_CHOICE: Final = range(20_000, 32_000)
_TRIES: Final = 100


def free_port(among: range = _CHOICE) -> int:
    """Return a loopback port that nobody listens on now; another process may still take it before its user does.

    Raises:
        EmbeddedServerError: none was found among those.
    """
    for _ in range(_TRIES):
        port = secrets.choice(among)
        with socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        return port
    raise EmbeddedServerError(f"{_TRIES} ports between {among[0]} and {among[-1]} are all taken: free some of them.")


def require_free_port(port: int, *, server: str) -> None:
    """Check that `server` could listen on loopback `port`.

    Raises:
        EmbeddedServerError: the port is taken or may not be used.
    """
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
