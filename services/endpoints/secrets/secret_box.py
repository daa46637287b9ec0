"""Encryption of keys at rest: AES-256-GCM with several keys, so that they can be rotated."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from services.endpoints.domain.ports.secrets import UnreadableSecretError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

_FORMAT: Final = 1
_HEADER_BYTES: Final = 2
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


class AesGcmSecretBox:
    """Seals with the first key and unseals with any of them.

    Sealed bytes are: format 1, key id, 12 bytes of nonce, ciphertext with its 16-byte tag. The key id is the first byte
    of the key's SHA-256; it spares useless attempts, and two keys that share it are both tried. The environment's id is
    the associated data, so that a row copied to another environment cannot be read.

    Source: NIST SP 800-38D.
    """

    def __init__(self, *, keys: Sequence[bytes], random_bytes: Callable[[int], bytes] = os.urandom) -> None:
        """Take 32-byte keys; the first one encrypts."""
        self._ciphers = [(sha256(key).digest()[0], AESGCM(key)) for key in keys]
        self._random_bytes = random_bytes

    def seal(self, secret: str, *, environment_id: UUID) -> bytes:
        """Return the secret encrypted."""
        key_id, cipher = self._ciphers[0]
        nonce = self._random_bytes(_NONCE_BYTES)
        return bytes((_FORMAT, key_id)) + nonce + cipher.encrypt(nonce, secret.encode(), environment_id.bytes)

    def unseal(self, sealed: bytes, *, environment_id: UUID) -> str:
        """Return the secret."""
        if len(sealed) < _HEADER_BYTES + _NONCE_BYTES + _TAG_BYTES or sealed[0] != _FORMAT:
            raise UnreadableSecretError("The sealed secret has an unknown format.")
        nonce = sealed[_HEADER_BYTES : _HEADER_BYTES + _NONCE_BYTES]
        ciphertext = sealed[_HEADER_BYTES + _NONCE_BYTES :]
        for key_id, cipher in self._ciphers:
            if key_id != sealed[1]:
                continue
            try:
                return cipher.decrypt(nonce, ciphertext, environment_id.bytes).decode()
            except InvalidTag:
                continue
        raise UnreadableSecretError("No key opens the sealed secret for this environment.")
