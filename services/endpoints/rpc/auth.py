"""The credential of a call: where it stands in the metadata, and the principal it became."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.errors import UnauthenticatedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from services.endpoints.domain.tenancy import Principal

_SCHEME: Final = "bearer"

_principal: ContextVar[Principal] = ContextVar("principal")
_readmission: ContextVar[Callable[[], Awaitable[None]]] = ContextVar("readmission")


def bearer_credential(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """Return the credential of the one `authorization: Bearer <credential>`.

    Raises:
        UnauthenticatedError: there is none, more than one, or one of another shape.
    Source: RFC 6750 section 2.1; the scheme is case-insensitive (RFC 9110 section 11.1).
    """
    values = [value for key, value in metadata if key == "authorization"]
    if len(values) != 1 or not isinstance(values[0], str):
        raise UnauthenticatedError
    scheme, _, credential = values[0].strip().partition(" ")
    if scheme.lower() != _SCHEME or not credential.strip():
        raise UnauthenticatedError
    return credential.strip()


def set_principal(principal: Principal) -> None:
    """Hand the principal to the servicer of this call; every call is a task of its own."""
    _principal.set(principal)


def set_readmission(readmit: Callable[[], Awaitable[None]]) -> None:
    """Hand the servicer of this call what recognises its caller again."""
    _readmission.set(readmit)


async def readmit_caller() -> None:
    """Recognise who makes this call again: a stream outlives a revoked token, a rotated key and an expiry.

    Raises:
        UnauthenticatedError: the credential is good no longer, or nobody was recognised in the first place.
        DatabaseUnavailableError: PostgreSQL is away and the credential is not trusted from before.
    """
    try:
        readmit = _readmission.get()
    except LookupError as error:
        raise UnauthenticatedError from error
    await readmit()


def current_principal() -> Principal:
    """Return who makes this call.

    Raises:
        UnauthenticatedError: nobody was recognised, because the method takes calls of anyone.
    """
    try:
        return _principal.get()
    except LookupError as error:
        raise UnauthenticatedError from error
