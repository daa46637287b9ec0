"""What operations ask of dispatchers."""

from __future__ import annotations

from typing import Protocol


class Dispatchers(Protocol):
    """Statements on dispatchers."""
