"""Signs calls, so that an endpoint can tell ours from a forger's and an old one from a new one."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.identifiers import SIGNING_SECRET_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_SCHEME: Final = "v1"


def signature_headers(*, call_id: str, sent_at: datetime, body: bytes, secrets: Sequence[str]) -> dict[str, str]:
    """Return the headers that sign one call; none when there is no secret.

    `call_id` stays the same when the call is repeated, `sent_at` is timezone-aware and sent in whole seconds, `body` is
    exactly what is sent. Each of `secrets`, newest first, signs for itself: an endpoint that knows one of them accepts.

    Raises:
        ValueError: a secret is not `whsec_` and base64.
    Source: Standard Webhooks 1.0.0, sections "Webhook metadata" and "Signature scheme".
    """
    if not secrets:
        return {}
    timestamp = str(int(sent_at.timestamp()))
    signed = b".".join((call_id.encode(), timestamp.encode(), body))
    return {
        "webhook-id": call_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(_signature(signed, secret) for secret in secrets),
    }


def _signature(signed: bytes, secret: str) -> str:
    if not secret.startswith(SIGNING_SECRET_PREFIX):
        # The secret itself stays out of the text, which may reach a log.
        raise ValueError(f"A signing secret must begin with {SIGNING_SECRET_PREFIX}.")
    key = b64decode(secret.removeprefix(SIGNING_SECRET_PREFIX), validate=True)
    return f"{_SCHEME},{b64encode(hmac.digest(key, signed, sha256)).decode()}"
