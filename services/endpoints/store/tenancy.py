"""The tenant tree and tokens on PostgreSQL; the statements are in `sql/tenancy.sql`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.endpoints.domain.ports.tenancy import FoundEnvironment, FoundToken, SigningSecretChange
from services.endpoints.domain.tenancy import (
    Environment,
    EnvironmentType,
    Organization,
    Project,
    Scope,
    Token,
    TokenKind,
)
from services.endpoints.store.errors import translated
from services.endpoints.store.queries import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    import asyncpg

    from services.endpoints.store.known_environments import KnownEnvironments

_SQL: Final = load("tenancy")


class PostgresTenancy:
    """Statements about organizations, projects, environments and tokens on one connection."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], *, known: KnownEnvironments) -> None:
        """Bind to the connection of a transaction, with what is known of environments without asking."""
        self._connection = connection
        self._known = known

    async def insert_organization(self, *, organization_id: UUID, slug: str, title: str) -> Organization | None:
        """Insert an organization."""
        row = await self._row("insert_organization", organization_id, slug, title)
        return None if row is None else _organization(row)

    async def get_organization(self, organization_id: UUID) -> Organization | None:
        """Read an organization."""
        row = await self._row("get_organization", organization_id)
        return None if row is None else _organization(row)

    async def insert_project(self, *, project_id: UUID, slug: str, name: str, organization_id: UUID) -> Project | None:
        """Insert a project."""
        row = await self._row("insert_project", project_id, slug, name, organization_id)
        return None if row is None else _project(row)

    async def get_project(self, project_id: UUID) -> Project | None:
        """Read a project."""
        row = await self._row("get_project", project_id)
        return None if row is None else _project(row)

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
        """Insert an environment."""
        row = await self._row(
            "insert_environment",
            environment_id,
            slug,
            environment_type.value,
            project_id,
            api_key_hash,
            api_key_ciphertext,
            signing_secret_ciphertext,
        )
        return None if row is None else _environment(row)

    async def get_environment(self, environment_id: UUID) -> Environment | None:
        """Read an environment."""
        row = await self._row("get_environment", environment_id)
        return None if row is None else _environment(row)

    async def known_environment(self, environment_id: UUID) -> Environment | None:
        """Return an environment, from memory when it was read in the last 5 seconds."""
        known = self._known.get(environment_id)
        if known is None:
            known = await self.get_environment(environment_id)
            if known is not None:
                self._known.put(known)
        return known

    async def list_environments(
        self,
        *,
        organization_id: UUID | None,
        project_id: UUID | None,
        environment_id: UUID | None,
        limit: int,
        after: UUID | None,
    ) -> list[Environment]:
        """Read environments."""
        rows = await self._rows("list_environments", organization_id, project_id, environment_id, limit, after)
        return [_environment(row) for row in rows]

    async def set_api_key(
        self, environment_id: UUID, *, api_key_hash: bytes, api_key_ciphertext: bytes, overlap: timedelta
    ) -> Environment | None:
        """Give an environment another API key."""
        row = await self._row("set_api_key", environment_id, api_key_hash, api_key_ciphertext, overlap)
        return None if row is None else _environment(row)

    async def set_signing_secret(
        self, environment_id: UUID, *, ciphertext: bytes, overlap: timedelta
    ) -> SigningSecretChange | None:
        """Sign with another secret, and with the one before as well for a while."""
        row = await self._row("set_signing_secret", environment_id, ciphertext, overlap)
        if row is None:
            return None
        return SigningSecretChange(_environment(row), row["previous_signing_secret_expires_at"])

    async def find_environment(self, api_key_hash: bytes) -> FoundEnvironment | None:
        """Read the environment of an API key."""
        row = await self._row("find_environment", api_key_hash)
        return None if row is None else FoundEnvironment(_environment(row), row["api_key_hash"], row["expires_in"])

    async def note_used_api_keys(self, environment_ids: Sequence[UUID]) -> None:
        """Note that API keys were used."""
        await self._rows("note_used_api_keys", environment_ids)

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
        rows = await self._rows(
            "insert_token",
            token_id,
            kind.value,
            name,
            organization_id,
            [scope.value for scope in scopes],
            token_hash,
            expires_at,
        )
        return _token(rows[0])

    async def get_token(self, token_id: UUID) -> Token | None:
        """Read a token."""
        row = await self._row("get_token", token_id)
        return None if row is None else _token(row)

    async def list_tokens(
        self,
        *,
        organization_id: UUID | None,
        kind: TokenKind | None,
        include_revoked: bool,
        limit: int,
        after: UUID | None,
    ) -> list[Token]:
        """Read tokens."""
        rows = await self._rows(
            "list_tokens", organization_id, None if kind is None else kind.value, include_revoked, limit, after
        )
        return [_token(row) for row in rows]

    async def revoke_token(self, token_id: UUID) -> Token | None:
        """Revoke a token."""
        row = await self._row("revoke_token", token_id)
        return None if row is None else _token(row)

    async def rotate_token(self, token_id: UUID, *, token_hash: bytes, overlap: timedelta) -> Token | None:
        """Give a token another secret."""
        row = await self._row("rotate_token", token_id, token_hash, overlap)
        return None if row is None else _token(row)

    async def note_used_tokens(self, token_ids: Sequence[UUID]) -> None:
        """Note that tokens were used."""
        await self._rows("note_used_tokens", token_ids)

    async def find_token(self, token_hash: bytes) -> FoundToken | None:
        """Read a token that is neither expired nor revoked."""
        row = await self._row("find_token", token_hash)
        return None if row is None else FoundToken(_token(row), row["token_hash"], row["expires_in"])

    async def _row(self, block: str, *arguments: object) -> asyncpg.Record | None:
        with translated():
            return await self._connection.fetchrow(_SQL[block], *arguments)

    async def _rows(self, block: str, *arguments: object) -> list[asyncpg.Record]:
        with translated():
            return await self._connection.fetch(_SQL[block], *arguments)


def _organization(row: asyncpg.Record) -> Organization:
    return Organization(
        id=row["id"],
        slug=row["slug"],
        title=row["title"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _project(row: asyncpg.Record) -> Project:
    return Project(
        id=row["id"],
        slug=row["slug"],
        name=row["name"],
        organization_id=row["organization_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _environment(row: asyncpg.Record) -> Environment:
    return Environment(
        id=row["id"],
        slug=row["slug"],
        type=EnvironmentType(row["type"]),
        organization_id=row["organization_id"],
        project_id=row["project_id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        api_key_last_used_at=row.get("api_key_last_used_at"),
    )


def _token(row: asyncpg.Record) -> Token:
    return Token(
        id=row["id"],
        kind=TokenKind(row["kind"]),
        name=row["name"],
        organization_id=row["organization_id"],
        scopes=frozenset(Scope(scope) for scope in row["scopes"]),
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        created_at=row["created_at"],
        last_used_at=row["last_used_at"],
    )
