"""Ports for the processes of a test."""

from __future__ import annotations

import os
from typing import Final

from services.embedded.ports import free_port

MOST_PROCESSES: Final = 8
"""How many processes a test run may have: they share out the ports."""

_FIRST_PORT: Final = 26_000
_LAST_PORT: Final = 32_000


def free_ports(count: int) -> list[int]:
    """Return different ports that nobody uses; each process of a test run has ports of its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    own = range(_FIRST_PORT + worker % MOST_PROCESSES, _LAST_PORT, MOST_PROCESSES)
    return [free_port(own) for _ in range(count)]
