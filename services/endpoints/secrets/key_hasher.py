"""Keyed hashes of API keys and tokens: a stolen table recognises nobody without the pepper."""

from __future__ import annotations

import hmac


class HmacKeyHasher:
    """HMAC-SHA256 under a pepper that is used for nothing else.

    Keys and tokens hold more than 100 random bits, so a slow hash would add nothing.
    """

    def __init__(self, *, pepper: bytes) -> None:
        """Take the pepper, 32 bytes."""
        self._pepper = pepper

    def hash_key(self, secret: str) -> bytes:
        """Return 32 bytes."""
        return hmac.digest(self._pepper, secret.encode("utf-8", "surrogatepass"), "sha256")

    def is_same(self, left: bytes, right: bytes) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(left, right)
