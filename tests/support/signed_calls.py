"""Checks the signatures of calls as an endpoint would."""

from __future__ import annotations

import base64
import hmac
from hashlib import sha256
from typing import TYPE_CHECKING

from tests.support.fake_endpoint import reply

if TYPE_CHECKING:
    from aiohttp import web

    from tests.support.fake_endpoint import Answer, Behaviour, FakeEndpoint, JournalEntry

_PREFIX = "whsec_"


def signature_of(entry: JournalEntry, secret: str) -> str:
    """Return the signature that the call has to carry if it was signed with this secret."""
    signed = f"{entry.headers['webhook-id']}.{entry.headers['webhook-timestamp']}.".encode() + entry.body
    digest = hmac.new(base64.b64decode(secret.removeprefix(_PREFIX)), signed, sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def signed_by(entry: JournalEntry, *secrets: str) -> bool:
    """Tell whether the call carries exactly one signature for each of these secrets, in their order."""
    return entry.headers["webhook-signature"] == " ".join(signature_of(entry, secret) for secret in secrets)


def knows_only(secret: str) -> Behaviour:
    """Refuse with 403 what is not signed with this secret, whatever else it is signed with."""

    async def behave(_request: web.Request, endpoint: FakeEndpoint) -> Answer:
        entry = endpoint.journal[-1]
        if signature_of(entry, secret) in entry.headers.get("webhook-signature", "").split():
            return None
        return reply({"message": "The signature does not fit"}, status=403)

    return behave
