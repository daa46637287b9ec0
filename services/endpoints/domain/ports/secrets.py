"""How keys are kept: sealed where they must be sent again, hashed where they are only recognised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from uuid import UUID


class UnreadableSecretError(Exception):
    """A sealed secret fits none of the keys, was changed, or belongs to another environment: a fault of operation."""


class SecretBox(Protocol):
    """Encrypts secrets at rest, each bound to the environment that owns it."""

    def seal(self, secret: str, *, environment_id: UUID) -> bytes:
        """Return the secret encrypted; the same secret never looks the same twice."""
        ...

    def unseal(self, sealed: bytes, *, environment_id: UUID) -> str:
        """Return the secret.

        Raises:
            UnreadableSecretError: no key fits, the bytes were changed, or they belong to another environment.
        """
        ...


class KeyHasher(Protocol):
    """Turns keys and tokens into what is stored and looked up."""

    def hash_key(self, secret: str) -> bytes:
        """Return 32 bytes, always the same for the same secret."""
        ...

    def is_same(self, left: bytes, right: bytes) -> bool:
        """Compare two hashes in constant time."""
        ...
