"""Who calls: from the text of a credential to a principal."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.errors import UnauthenticatedError
from services.endpoints.domain.tenancy import Principal, PrincipalKind, Scope, TokenKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.endpoints.domain.ports.secrets import KeyHasher
    from services.endpoints.domain.ports.store import Store
    from services.endpoints.domain.ports.tenancy import FoundToken
    from services.endpoints.operations.credential_uses import CredentialUses

CACHE_LIFETIME: Final = timedelta(seconds=5)
MAX_CACHED: Final = 10_000

_ALL_SCOPES: Final = frozenset(Scope)
_ENVIRONMENT_SCOPES: Final = frozenset({Scope.READ, Scope.WRITE})
_CREDENTIAL: Final = re.compile(r"[\x21-\x7e]{1,200}", re.ASCII)
_API_KEY_PREFIX: Final = "tr_"
_KINDS: Final = {
    TokenKind.SERVICE: PrincipalKind.SERVICE,
    TokenKind.WORKER: PrincipalKind.WORKER,
    TokenKind.ADMIN: PrincipalKind.ADMIN,
}


@dataclass(frozen=True, slots=True)
class _Cached:
    principal: Principal
    good_until: float


class Authentication:
    """Recognises credentials; those it has found it trusts for 5 seconds, never beyond their expiry.

    `admin_token` is the first admin's credential from the settings, None when there is none. `monotonic` counts
    seconds. Credentials are kept as keyed hashes only.
    """

    def __init__(
        self,
        *,
        store: Store,
        key_hasher: KeyHasher,
        admin_token: str | None,
        uses: CredentialUses,
        monotonic: Callable[[], float],
    ) -> None:
        """Take the ports; nothing is read yet."""
        self._store = store
        self._key_hasher = key_hasher
        self._admin_hash = key_hasher.hash_key(admin_token) if admin_token else None
        self._uses = uses
        self._monotonic = monotonic
        self._cache: dict[bytes, _Cached] = {}
        self._forgotten = 0

    async def authenticate(self, credential: str) -> Principal:
        """Return who holds `credential`, an environment's API key or a token.

        Raises:
            UnauthenticatedError: it is malformed, unknown, expired or revoked.
            DatabaseUnavailableError: PostgreSQL is away and the credential is not trusted from before.
        """
        if _CREDENTIAL.fullmatch(credential) is None:
            raise UnauthenticatedError
        key_hash = self._key_hasher.hash_key(credential)
        if self._admin_hash is not None and self._key_hasher.is_same(key_hash, self._admin_hash):
            return Principal(PrincipalKind.ADMIN, "admin", scopes=_ALL_SCOPES)
        cached = self._cache.get(key_hash)
        if cached is not None and self._monotonic() < cached.good_until:
            return cached.principal
        return await self._look_up(key_hash, is_api_key=credential.startswith(_API_KEY_PREFIX))

    def forget(self) -> None:
        """Trust nothing from before: a key was rotated or a token revoked."""
        self._cache.clear()
        self._forgotten += 1

    async def _look_up(self, key_hash: bytes, *, is_api_key: bool) -> Principal:
        # A look-up that began before something was forgotten may have read what is no longer true.
        forgotten = self._forgotten
        found = await (self._environment(key_hash) if is_api_key else self._token(key_hash))
        if found is None:
            self._cache.pop(key_hash, None)
            raise UnauthenticatedError
        principal, trusted_for = found
        if forgotten == self._forgotten:
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[key_hash] = _Cached(principal, self._monotonic() + trusted_for.total_seconds())
        return principal

    async def _environment(self, key_hash: bytes) -> tuple[Principal, timedelta] | None:
        async with self._store.reading() as tx:
            found = await tx.tenancy.find_environment(key_hash)
        if found is None or not self._key_hasher.is_same(found.api_key_hash, key_hash):
            return None
        environment = found.environment
        self._uses.note_api_key(environment.id)
        principal = Principal(
            PrincipalKind.ENVIRONMENT,
            f"environment:{environment.id}",
            organization_id=environment.organization_id,
            environment_id=environment.id,
            scopes=_ENVIRONMENT_SCOPES,
        )
        return principal, min(CACHE_LIFETIME, found.expires_in or CACHE_LIFETIME)

    async def _token(self, key_hash: bytes) -> tuple[Principal, timedelta] | None:
        async with self._store.reading() as tx:
            found = await tx.tenancy.find_token(key_hash)
        if found is None or not self._key_hasher.is_same(found.token_hash, key_hash):
            return None
        self._uses.note_token(found.token.id)
        return _principal_of(found), min(CACHE_LIFETIME, found.expires_in or CACHE_LIFETIME)


def _principal_of(found: FoundToken) -> Principal:
    token = found.token
    scopes = {TokenKind.SERVICE: token.scopes, TokenKind.WORKER: frozenset[Scope](), TokenKind.ADMIN: _ALL_SCOPES}
    return Principal(
        _KINDS[token.kind],
        f"token:{token.id}",
        organization_id=token.organization_id,
        scopes=scopes[token.kind],
    )
