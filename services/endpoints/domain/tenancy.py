"""The tenant tree: organizations, projects, environments, and the tokens of their callers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class EnvironmentType(Enum):
    """What an environment is for; only DEVELOPMENT has no index window and no index retries."""

    DEVELOPMENT = "DEVELOPMENT"
    PRODUCTION = "PRODUCTION"
    STAGING = "STAGING"
    PREVIEW = "PREVIEW"


class TokenKind(Enum):
    """Who holds a token: an internal service, a worker or an administrator."""

    SERVICE = "SERVICE"
    WORKER = "WORKER"
    ADMIN = "ADMIN"


class Scope(Enum):
    """What a credential allows."""

    READ = "read"
    WRITE = "write"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class Organization:
    """A tenant."""

    id: UUID
    slug: str
    title: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Project:
    """A group of environments of one organization."""

    id: UUID
    slug: str
    name: str
    organization_id: UUID
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Environment:
    """Where endpoints live; it owns the API key that is sent to them, which is kept apart from this value.

    `api_key_last_used_at` is None, too, where nobody asked for it.
    """

    id: UUID
    slug: str
    type: EnvironmentType
    organization_id: UUID
    project_id: UUID
    created_at: datetime
    updated_at: datetime
    api_key_last_used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A credential of a caller; the secret itself is shown once, when it is made."""

    id: UUID
    kind: TokenKind
    name: str
    organization_id: UUID | None
    scopes: frozenset[Scope]
    expires_at: datetime | None
    revoked_at: datetime | None
    created_at: datetime
    last_used_at: datetime | None = None


class PrincipalKind(Enum):
    """The four kinds of credential."""

    ENVIRONMENT = "ENVIRONMENT"
    SERVICE = "SERVICE"
    WORKER = "WORKER"
    ADMIN = "ADMIN"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: the answer of authentication, the question of every ownership check.

    `name` is stable for the credential (`environment:<id>`, `token:<id>`, `admin`) and keys idempotency by request id.
    """

    kind: PrincipalKind
    name: str
    organization_id: UUID | None = None
    environment_id: UUID | None = None
    scopes: frozenset[Scope] = field(default_factory=frozenset)
