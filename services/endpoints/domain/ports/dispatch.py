"""What delivering an event asks of the store: who wants it, what it was given to, and the runs that came of it."""

from __future__ import annotations

from typing import Protocol


class Dispatch(Protocol):
    """Statements that deliver events, invoke dispatchers and keep runs."""
