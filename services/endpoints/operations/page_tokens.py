"""Page tokens: cursors that callers can neither read anything from nor forge."""

from __future__ import annotations

import binascii
import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.errors import FieldViolation, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.endpoints.domain.tenancy import Principal

LIFETIME: Final = timedelta(hours=24)

_MAC_BYTES: Final = 16
# The longest cursor is the key of a source: 500 characters of up to 4 bytes, of which base64 makes 2,700 characters.
_MAX_CHARACTERS: Final = 4096


class PageTokens:
    """Signs cursors and reads them back.

    A token is good for 24 hours, for the tenant it was given to and for the filter it was given with. It is the base64
    of a 16-byte MAC and the JSON `[seconds of expiry, cursor]`; tenant and filter are in the MAC only.

    Source: AIP-158.
    """

    def __init__(self, *, key: bytes, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Take a key that is used for nothing else; every server must have the same."""
        self._key = key
        self._clock = clock

    def sign(self, cursor: str, *, principal: Principal, filter_hash: bytes) -> str:
        """Return the token for a cursor."""
        expires_at = int((self._clock() + LIFETIME).timestamp())
        body = json.dumps([expires_at, cursor], ensure_ascii=False, separators=(",", ":")).encode()
        return _encoded(self._mac(body, principal, filter_hash) + body)

    def read(self, token: str, *, principal: Principal, filter_hash: bytes) -> str | None:
        """Return the cursor of a token; None for the empty one, which asks for the first page.

        Raises:
            InvalidRequestError: the token is garbage, forged, expired, or of another tenant or filter.
        """
        if not token:
            return None
        cursor = self._cursor(token, principal, filter_hash)
        if cursor is None:
            description = "must be the next_page_token of a page with the same filters, given within the last 24 hours"
            raise InvalidRequestError([FieldViolation("page_token", description)])
        return cursor

    def _cursor(self, token: str, principal: Principal, filter_hash: bytes) -> str | None:
        if len(token) > _MAX_CHARACTERS or not token.isascii():
            return None
        try:
            raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (ValueError, binascii.Error):
            return None
        if _encoded(raw) != token:
            # The library passes over what is not base64 and over bits that no byte holds.
            return None
        mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body, principal, filter_hash)):
            return None
        # The MAC holds, so this server's own code wrote the body.
        expires_at, cursor = json.loads(body)
        return str(cursor) if self._clock().timestamp() < expires_at else None

    def _mac(self, body: bytes, principal: Principal, filter_hash: bytes) -> bytes:
        parts = (_tenant(principal).encode(), filter_hash, body)
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        return hmac.digest(self._key, framed, "sha256")[:_MAC_BYTES]


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _tenant(principal: Principal) -> str:
    """Return what a token is bound to: not the credential, so that a rotated key does not break a list."""
    return f"{principal.kind.value} {principal.organization_id} {principal.environment_id}"
