"""Ids, keys and hook identifiers: how each is made and what each looks like."""

from __future__ import annotations

import re
import secrets
import time
import uuid
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.endpoints.domain.tenancy import EnvironmentType

HOOK_IDENTIFIER_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvxyz"
HOOK_IDENTIFIER_LENGTH: Final = 10
MAX_SLUG_LENGTH: Final = 100
MAX_CONSECUTIVE_IDS: Final = 1 << 12
SIGNING_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what every secret begins with
NIL_UUID: Final = uuid.UUID(int=0)

_ALPHANUMERIC: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_API_KEY_LENGTH: Final = 20
_TOKEN_LENGTH: Final = 40
_SIGNING_SECRET_BYTES: Final = 32
_SLUG: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,99}", re.ASCII)
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_HOOK_IDENTIFIER: Final = re.compile(rf"[{HOOK_IDENTIFIER_ALPHABET}]{{{HOOK_IDENTIFIER_LENGTH}}}", re.ASCII)

_TIME_ORDERED_VERSION: Final = 7
_MILLISECONDS_SHIFT: Final = 80
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MILLISECOND: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(milliseconds=1)

_KEY_WORDS: Final = {"DEVELOPMENT": "dev", "PRODUCTION": "prod", "STAGING": "stg", "PREVIEW": "prev"}


def time_of_uuid7(identifier: uuid.UUID) -> datetime | None:
    """Return when an id was made, to the millisecond; None for one that does not begin with a time.

    Source: RFC 9562 section 5.7.
    """
    if identifier.version != _TIME_ORDERED_VERSION:
        return None
    return _EPOCH + timedelta(milliseconds=min(identifier.int >> _MILLISECONDS_SHIFT, _LAST_MILLISECOND))


def new_uuid7(
    *,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    random_bits: Callable[[int], int] = secrets.randbits,
) -> uuid.UUID:
    """Return a version 7 UUID: 48 bits of milliseconds, then random bits, so that ids sort by creation time.

    Source: RFC 9562 section 5.7.
    """
    value = (now_ms() & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    random = random_bits(74)
    value |= random >> 62 << 64
    value |= 0b10 << 62
    value |= random & ((1 << 62) - 1)
    return uuid.UUID(int=value)


def consecutive_ids(first: uuid.UUID, count: int) -> list[uuid.UUID]:
    """Return `count` ids, at most 4,096, in ascending order: those of one request, which sort as it gives them.

    They begin with `first`, a version 7 UUID, whose last 12 bits give way: 62 random bits distinguish requests of one
    millisecond.
    """
    start = first_of_consecutive(first).int
    return [uuid.UUID(int=start + place) for place in range(count)]


def first_of_consecutive(first: uuid.UUID) -> uuid.UUID:
    """Return the first id of those that `consecutive_ids` makes of a version 7 UUID."""
    return uuid.UUID(int=first.int & ~(MAX_CONSECUTIVE_IDS - 1))


def new_hook_identifier() -> str:
    """Return 10 random characters of the hook alphabet; whoever knows them may ask for an index.

    Source: protocol, section 2.1.
    """
    return "".join(secrets.choice(HOOK_IDENTIFIER_ALPHABET) for _ in range(HOOK_IDENTIFIER_LENGTH))


def new_api_key(environment_type: EnvironmentType) -> str:
    """Return an environment API key `tr_<dev,prod,stg,prev>_<20 alphanumerics>`.

    Source: protocol, section 0; the SDK sends no other shape.
    """
    return f"tr_{_KEY_WORDS[environment_type.value]}_{_random_alphanumerics(_API_KEY_LENGTH)}"


def new_token(kind: str) -> str:
    """Return a token `kf_<kind>_<40 alphanumerics>`; `kind` is `service`, `worker` or `admin`."""
    return f"kf_{kind}_{_random_alphanumerics(_TOKEN_LENGTH)}"


def new_signing_secret(*, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> str:
    """Return a secret that calls are signed with: `whsec_` and the base64 of 32 random bytes.

    Source: Standard Webhooks 1.0.0, section "Signature scheme": 24 to 64 bytes.
    """
    return SIGNING_SECRET_PREFIX + b64encode(random_bytes(_SIGNING_SECRET_BYTES)).decode()


def is_slug(text: str) -> bool:
    """Tell whether `text` may name an endpoint, an environment, a project or an organization.

    1 to 100 ASCII characters of `A-Z a-z 0-9 . _ ~ -`, the first one a letter or a digit; never `..`.
    """
    return _SLUG.fullmatch(text) is not None and ".." not in text


def is_uuid(text: str) -> bool:
    """Tell whether `text` is a UUID in its usual form of 36 characters, of any version."""
    return _UUID.fullmatch(text) is not None


def is_hook_identifier(text: str) -> bool:
    """Tell whether `text` is 10 characters of the hook alphabet."""
    return _HOOK_IDENTIFIER.fullmatch(text) is not None


def _random_alphanumerics(length: int) -> str:
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(length))
