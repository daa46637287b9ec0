"""What a call to a customer's endpoint takes and gives: addresses, results, failures and the protocol's own texts."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

Reading = TypeVar("Reading")

MAX_REMOTE_TEXT_CHARACTERS: Final = 500
"""How much of a sentence written by an endpoint is kept."""

INVALID_API_KEY_TEXT: Final = "Trigger API key is invalid"
UNPARSABLE_TEXT: Final = (
    "Could not parse response from endpoint. Make sure it points to the correct URL (you might be missing /api/trigger)"
)

_NOT_REPEATED_STATUSES: Final = range(300, 500)
_REPEATED_STATUSES: Final = frozenset({408, 425, 429})
_WHITE_CONTROLS: Final = "\t\n\v\f\r"


class Action(Enum):
    """Names an operation of the endpoint protocol, as the header `x-trigger-action` spells it."""

    PING = "PING"
    VALIDATE = "VALIDATE"
    INDEX_ENDPOINT = "INDEX_ENDPOINT"
    INITIALIZE_TRIGGER = "INITIALIZE_TRIGGER"
    PREPROCESS_RUN = "PREPROCESS_RUN"
    EXECUTE_JOB = "EXECUTE_JOB"
    DELIVER_HTTP_SOURCE_REQUEST = "DELIVER_HTTP_SOURCE_REQUEST"


class CallFailure(Enum):
    """Says in one word why a call failed: for metrics and for deciding what to do next."""

    ADDRESS_NOT_ALLOWED = "ADDRESS_NOT_ALLOWED"
    NAME_NOT_RESOLVED = "NAME_NOT_RESOLVED"
    NOT_CONNECTED = "NOT_CONNECTED"
    TLS = "TLS"
    TIMED_OUT = "TIMED_OUT"
    DISCONNECTED = "DISCONNECTED"
    INVALID_HTTP = "INVALID_HTTP"
    TOO_LARGE = "TOO_LARGE"
    UNAUTHORIZED = "UNAUTHORIZED"
    STATUS = "STATUS"
    NOT_JSON = "NOT_JSON"
    BAD_SCHEMA = "BAD_SCHEMA"
    REPORTED = "REPORTED"


NOT_REPEATED: Final = frozenset(
    {CallFailure.ADDRESS_NOT_ALLOWED, CallFailure.TOO_LARGE, CallFailure.UNAUTHORIZED, CallFailure.BAD_SCHEMA}
)
"""Failures that the same call would meet again; a STATUS depends on its number."""


def is_worth_repeating(failure: CallFailure, http_status: int | None) -> bool:
    """Return whether the same call may succeed later.

    Redirects and 4xx stay what they are, apart from 408, 425 and 429; 5xx and everything that never answered may pass.
    An answer that is not JSON may be a proxy's page during a deployment, so it is repeated. An endpoint that reports an
    error of its own (REPORTED) has understood the call and will say the same again.
    """
    if failure in NOT_REPEATED or failure is CallFailure.REPORTED:
        return False
    if failure is not CallFailure.STATUS or http_status is None:
        return True
    return http_status in _REPEATED_STATUSES or http_status not in _NOT_REPEATED_STATUSES


@dataclass(frozen=True, slots=True)
class CallSigning:
    """What a call is signed with: its id, the same when it is repeated, and the secrets, newest first."""

    call_id: str
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """Where an endpoint lives and the key that opens it; neither a key nor a signing secret is shown by `repr`.

    `signing` None leaves calls unsigned: the environment has no secret yet. `previous_api_key` is the key before the
    last rotation while it is still good.
    """

    url: str
    api_key: str = field(repr=False)
    slug: str
    signing: CallSigning | None = None
    previous_api_key: str | None = field(default=None, repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Return all that the endpoint knows and nobody else may read."""
        keys = (self.api_key,) if self.previous_api_key is None else (self.api_key, self.previous_api_key)
        return keys if self.signing is None else keys + self.signing.secrets


@dataclass(frozen=True, slots=True, kw_only=True)
class PingResult:
    """What a PING or a VALIDATE found; a failed one is a result, not an exception.

    `error` is the protocol's own text and None when `ok`; `detail` says more for people who operate KongFlow, such as
    "timed out after 30 s". `http_status` is None when nothing answered. `endpoint_id` is set by VALIDATE only. The
    versions are None when the endpoint did not send them.
    """

    ok: bool
    error: str | None
    http_status: int | None
    duration: timedelta
    trigger_version: str | None = None
    sdk_version: str | None = None
    endpoint_id: str | None = None
    failure: CallFailure | None = None
    detail: str | None = None
    retryable: bool = False
    retry_after: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexAnswer(Generic[Reading]):
    """What an endpoint offers, as the caller read it."""

    body: Reading
    size_bytes: int
    duration: timedelta
    trigger_version: str | None = None
    sdk_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """An answer of any status, for the calls whose callers map statuses themselves.

    `headers` have lower-case names. `body` is decoded (gzip and the like undone) and at most the byte cap long.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    duration: timedelta


class EndpointCallError(Exception):
    """A call to an endpoint failed.

    `message` is exactly the protocol's text and fit for the customer; `detail` says more. `retryable` says whether the
    same call may succeed later, `retry_after` what the endpoint asked for (at most an hour). `http_status` is None when
    nothing answered. `remote_stack` is the endpoint's own stack trace where the protocol hands one over.
    """

    def __init__(
        self,
        message: str,
        *,
        failure: CallFailure,
        detail: str | None = None,
        http_status: int | None = None,
        retry_after: timedelta | None = None,
        remote_stack: str | None = None,
    ) -> None:
        """Decide by the failure and the status whether repeating is worth it."""
        super().__init__(message)
        self.message = message
        self.failure = failure
        self.detail = detail
        self.http_status = http_status
        self.retryable = is_worth_repeating(failure, http_status)
        self.retry_after = retry_after if self.retryable else None
        self.remote_stack = remote_stack


def no_response_text(url: str) -> str:
    """Return the protocol's text for an endpoint that nobody could reach."""
    return f"Could not connect to endpoint {_shown(url)}"


def status_text(url: str, http_status: int) -> str:
    """Return the protocol's text for a status other than 2xx."""
    return f"Could not connect to endpoint {_shown(url)}. Status code: {http_status}"


def schema_text(url: str, complaint: str) -> str:
    """Return the protocol's text for an answer of the wrong shape."""
    return f"Endpoint {_shown(url)} responded with error: {complaint}"


def _shown(url: str) -> str:
    """Return a url without its query, which may hold a secret."""
    return url.partition("?")[0]


def clean_remote_text(text: str, *, secrets: Sequence[str] = ()) -> str:
    """Return what an endpoint wrote, made safe to store and to show, at most 500 characters long.

    Control, format and surrogate characters go (PostgreSQL refuses NUL, terminals obey the others, right-to-left marks
    deceive readers), line breaks and tabs become a space, and each of `secrets` is blotted out wherever it is repeated.
    """
    for secret in secrets:
        text = text.replace(secret, "[key]")
    shortened = text[: 4 * MAX_REMOTE_TEXT_CHARACTERS]
    spaced = "".join(" " if character in _WHITE_CONTROLS else character for character in shortened)
    visible = "".join(character for character in spaced if unicodedata.category(character) not in {"Cc", "Cf", "Cs"})
    return visible[:MAX_REMOTE_TEXT_CHARACTERS]
