"""Ids, time and chance, as arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from uuid import UUID


class NewId(Protocol):
    """Makes ids that sort by creation time."""

    def __call__(self) -> UUID:
        """Return a new id."""
        ...


class Jitter(Protocol):
    """Spreads repeated work."""

    def __call__(self) -> float:
        """Return a number in [0, 1)."""
        ...
