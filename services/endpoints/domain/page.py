"""Pages of lists: what is asked for, what is answered, and the cursor between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_Item = TypeVar("_Item")

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 1000
MAX_PAGE_BYTES: Final = 2 * 1024 * 1024
"""How much customers' text a page holds unless one item alone has more: clients take 4 MiB by default."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page is wanted: `size` is 1 to 1,000; `after` is the cursor of the page before, None for the first page.

    A cursor is whatever orders the list, as text: a slug, an id, an ordinal. Callers see it signed, never bare.
    """

    size: int = DEFAULT_PAGE_SIZE
    after: str | None = None

    @property
    def limit(self) -> int:
        """How many rows to read: one more than the page holds, which tells whether another page follows."""
        return self.size + 1


@dataclass(frozen=True, slots=True)
class Fitting(Generic[_Item]):
    """Rows read for a page; `is_cut` when those after them were left out because together they are too large."""

    rows: list[_Item]
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[_Item]):
    """One page; `next_after` is the cursor of its last item, None when no page follows."""

    items: tuple[_Item, ...]
    next_after: str | None = None


def page_of(
    read: Sequence[_Item] | Fitting[_Item], request: PageRequest, cursor_of: Callable[[_Item], str]
) -> Page[_Item]:
    """Return the page that the rows `read` with `request.limit` make up.

    With size 2, the rows `a b c` become the page `a b` and the cursor of `b`; the rows `a b` are the last page, unless
    they were cut.
    """
    rows, is_cut = (read.rows, read.is_cut) if isinstance(read, Fitting) else (read, False)
    items = tuple(rows[: request.size])
    follows = is_cut or len(rows) > request.size
    return Page(items, cursor_of(items[-1]) if follows else None)
