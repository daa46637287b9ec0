"""Loopback ports."""

from __future__ import annotations

import socket

from services.embedded.process import EmbeddedServerError

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """Return a loopback port that nobody listens on now; another process may still take it before its user does."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


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
