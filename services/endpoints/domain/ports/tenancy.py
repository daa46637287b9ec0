"""What operations ask of the tenant tree and of tokens, inside one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from services.endpoints.domain.tenancy import (
        Environment,
        EnvironmentType,
        Organization,
        Project,
        Scope,
        Token,
        TokenKind,
    )


@dataclass(frozen=True, slots=True)
class FoundEnvironment:
    """The environment of an API key, with the hash that was found.

    `expires_in` is by the database's clock, for a key that was rotated; None means never.
    """

    environment: Environment
    api_key_hash: bytes
    expires_in: timedelta | None = None


@dataclass(frozen=True, slots=True)
class FoundToken:
    """A token that is neither expired nor revoked, with the hash that was found.

    `expires_in` is by the database's clock; None means never.
    """

    token: Token
    token_hash: bytes
    expires_in: timedelta | None


@dataclass(frozen=True, slots=True)
class SigningSecretChange:
    """An environment with another signing secret; `previous_expires_at` is None when no other signs beside it."""

    environment: Environment
    previous_expires_at: datetime | None


class Tenancy(Protocol):
    """Statements about organizations, projects, environments and tokens. Lists are ordered by id, oldest first."""

    async def insert_organization(self, *, organization_id: UUID, slug: str, title: str) -> Organization | None:
        """Insert an organization; None when the slug is taken."""
        ...

    async def get_organization(self, organization_id: UUID) -> Organization | None:
        """Read an organization."""
        ...

    async def insert_project(self, *, project_id: UUID, slug: str, name: str, organization_id: UUID) -> Project | None:
        """Insert a project; None when the slug is taken or the organization is gone."""
        ...

    async def get_project(self, project_id: UUID) -> Project | None:
        """Read a project."""
        ...

    async def insert_environment(
        self,
        *,
        environment_id: UUID,
        slug: str,
        environment_type: EnvironmentType,
        project_id: UUID,
        api_key_hash: bytes,
        api_key_ciphertext: bytes,
        signing_secret_ciphertext: bytes,
    ) -> Environment | None:
        """Insert an environment; None when the slug is taken in the project or the project is gone."""
        ...

    async def get_environment(self, environment_id: UUID) -> Environment | None:
        """Read an environment."""
        ...

    async def known_environment(self, environment_id: UUID) -> Environment | None:
        """Return an environment as it was within the last 5 seconds: for its ids and its type, which never change."""
        ...

    async def list_environments(
        self,
        *,
        organization_id: UUID | None,
        project_id: UUID | None,
        environment_id: UUID | None,
        limit: int,
        after: UUID | None,
    ) -> list[Environment]:
        """Read environments; None means any."""
        ...

    async def set_api_key(
        self, environment_id: UUID, *, api_key_hash: bytes, api_key_ciphertext: bytes, overlap: timedelta
    ) -> Environment | None:
        """Give an environment another API key, and keep the one before for `overlap`; None when it is gone."""
        ...

    async def note_used_api_keys(self, environment_ids: Sequence[UUID]) -> None:
        """Note that API keys were used, at most once a minute each."""
        ...

    async def set_signing_secret(
        self, environment_id: UUID, *, ciphertext: bytes, overlap: timedelta
    ) -> SigningSecretChange | None:
        """Sign with another secret, and with the one before as well for `overlap`; None when the environment is gone.

        A secret that was there before the one before signs no more.
        """
        ...

    async def find_environment(self, api_key_hash: bytes) -> FoundEnvironment | None:
        """Read the environment of an API key."""
        ...

    async def insert_token(
        self,
        *,
        token_id: UUID,
        kind: TokenKind,
        name: str,
        organization_id: UUID | None,
        scopes: Sequence[Scope],
        token_hash: bytes,
        expires_at: datetime | None,
    ) -> Token:
        """Insert a token."""
        ...

    async def get_token(self, token_id: UUID) -> Token | None:
        """Read a token."""
        ...

    async def list_tokens(
        self,
        *,
        organization_id: UUID | None,
        kind: TokenKind | None,
        include_revoked: bool,
        limit: int,
        after: UUID | None,
    ) -> list[Token]:
        """Read tokens; None means any."""
        ...

    async def revoke_token(self, token_id: UUID) -> Token | None:
        """Revoke a token, keeping an earlier time of revocation; None when it is gone."""
        ...

    async def rotate_token(self, token_id: UUID, *, token_hash: bytes, overlap: timedelta) -> Token | None:
        """Give a token another secret, and keep the one before for `overlap`; None when it is gone or revoked."""
        ...

    async def note_used_tokens(self, token_ids: Sequence[UUID]) -> None:
        """Note that tokens were used, at most once a minute each."""
        ...

    async def find_token(self, token_hash: bytes) -> FoundToken | None:
        """Read a token that is neither expired nor revoked."""
        ...
