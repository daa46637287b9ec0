"""Rows of a page that a statement cut where they got too large."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from services.endpoints.domain.page import Fitting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import asyncpg

_Item = TypeVar("_Item")


def fitting(rows: Sequence[asyncpg.Record], read: Callable[[asyncpg.Record], _Item]) -> Fitting[_Item]:
    """Return what `read` makes of rows, whose column `found` says how many there were before the cut."""
    return Fitting([read(row) for row in rows], is_cut=bool(rows) and rows[0]["found"] > len(rows))
