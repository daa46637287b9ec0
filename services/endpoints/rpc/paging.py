"""Pages as callers ask for them: a size, and a token that is bound to its filter."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Protocol

from services.endpoints.domain.errors import InvalidRequestError
from services.endpoints.domain.page import PageRequest

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from services.endpoints.domain.page import Page
    from services.endpoints.domain.tenancy import Principal
    from services.endpoints.operations.page_tokens import PageTokens
    from services.endpoints.rpc.validate import Checks

_HASH_BYTES: Final = 16


class _Listing(Protocol):
    """A List request."""

    @property
    def page_size(self) -> int:
        """How many at most."""
        ...

    @property
    def page_token(self) -> str:
        """Where to go on."""
        ...


class Paging:
    """Reads page sizes and tokens from List requests and writes the token of the next page."""

    def __init__(self, *, page_tokens: PageTokens) -> None:
        self._page_tokens = page_tokens

    def request(self, checks: Checks, principal: Principal, listing: Any) -> PageRequest:  # noqa: ANN401 - see _Listing
        """Read which page a List request asks for; violations go to `checks`."""
        asked: _Listing = listing
        size = checks.page_size("page_size", asked.page_size)
        after: str | None = None
        try:
            after = self._page_tokens.read(asked.page_token, principal=principal, filter_hash=filter_hash(listing))
        except InvalidRequestError as error:
            checks.take(error)
        return PageRequest(size=size, after=after)

    def next_token(self, principal: Principal, listing: Message, page: Page[Any]) -> str:
        """Return the token of the page after `page`; empty when there is none."""
        if page.next_after is None:
            return ""
        return self._page_tokens.sign(page.next_after, principal=principal, filter_hash=filter_hash(listing))


def filter_hash(listing: Message) -> bytes:
    """Return 16 bytes that differ when the method or any field but the size and the token differs."""
    wanted = type(listing)()
    wanted.CopyFrom(listing)
    for field in ("page_size", "page_token"):
        wanted.ClearField(field)
    wanted.DiscardUnknownFields()
    text = listing.DESCRIPTOR.full_name.encode() + b"\0" + wanted.SerializeToString(deterministic=True)
    return blake2b(text, digest_size=_HASH_BYTES).digest()
