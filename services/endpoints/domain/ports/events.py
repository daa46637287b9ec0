"""What operations ask of the events that were taken in."""

from __future__ import annotations

from typing import Protocol


class Events(Protocol):
    """Statements on event records."""
