"""The tenant tree and the credentials of callers."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar
from uuid import UUID

from services.endpoints.domain.errors import (
    AlreadyExistsError,
    FieldViolation,
    InvalidRequestError,
    KongflowError,
    NotFoundError,
    Reason,
)
from services.endpoints.domain.identifiers import new_api_key, new_signing_secret, new_token
from services.endpoints.domain.page import page_of
from services.endpoints.domain.ports.store import Pool
from services.endpoints.domain.request_hash import request_hash
from services.endpoints.domain.tenancy import Environment, Organization, PrincipalKind, Project, Token
from services.endpoints.operations.authorization import require_environment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from services.endpoints.domain.page import Page, PageRequest
    from services.endpoints.domain.ports.clock import NewId
    from services.endpoints.domain.ports.secrets import KeyHasher, SecretBox
    from services.endpoints.domain.ports.store import Store, Transaction
    from services.endpoints.domain.ports.tenancy import SigningSecretChange
    from services.endpoints.domain.tenancy import EnvironmentType, Principal, Scope, TokenKind
    from services.endpoints.operations.authentication import Authentication

_Resource = TypeVar("_Resource", Organization, Project, Environment, Token)


@dataclass(frozen=True, slots=True)
class CreateOrganization:
    """A request for an organization."""

    slug: str
    title: str
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class CreateProject:
    """A request for a project."""

    organization_id: UUID
    slug: str
    name: str
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class CreateEnvironment:
    """A request for an environment."""

    project_id: UUID
    slug: str
    type: EnvironmentType
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentSecrets:
    """What a new environment's answer alone shows: never in a `repr`."""

    api_key: str = field(repr=False)
    signing_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RotatedSigningSecret:
    """A new signing secret, never in a `repr`; `previous_expires_at` is None when no other signs beside it."""

    environment: Environment
    signing_secret: str = field(repr=False)
    previous_expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class CreateToken:
    """A request for a token; `organization_id` and `scopes` are for SERVICE tokens and for no other kind."""

    kind: TokenKind
    name: str
    organization_id: UUID | None = None
    scopes: frozenset[Scope] = frozenset()
    expires_at: datetime | None = None
    request_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentFilter:
    """Which environments to list; None means any."""

    organization_id: UUID | None = None
    project_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class TokenFilter:
    """Which tokens to list; None means any."""

    organization_id: UUID | None = None
    kind: TokenKind | None = None
    include_revoked: bool = False


class TenancyOperations:
    """Creates and reads the tenant tree; makes, rotates and revokes credentials.

    Every create takes a request id: a repeat within 24 hours answers the same resource, without its secret.
    """

    def __init__(
        self,
        *,
        store: Store,
        secret_box: SecretBox,
        key_hasher: KeyHasher,
        authentication: Authentication,
        new_id: NewId,
        new_api_key: Callable[[EnvironmentType], str] = new_api_key,
        new_token: Callable[[str], str] = new_token,
        new_signing_secret: Callable[[], str] = new_signing_secret,
    ) -> None:
        """Take the ports."""
        self._store = store
        self._secret_box = secret_box
        self._key_hasher = key_hasher
        self._authentication = authentication
        self._new_id = new_id
        self._new_api_key = new_api_key
        self._new_token = new_token
        self._new_signing_secret = new_signing_secret

    async def create_organization(self, principal: Principal, request: CreateOrganization) -> Organization:
        """Create an organization.

        Raises:
            AlreadyExistsError: the slug is taken.
            InvalidRequestError: REQUEST_ID_REUSED.
        """

        async def create(tx: Transaction) -> Organization:
            made = await tx.tenancy.insert_organization(
                organization_id=self._new_id(), slug=request.slug, title=request.title
            )
            if made is None:
                raise AlreadyExistsError("organization", request.slug)
            return made

        async def work(tx: Transaction) -> Organization:
            return await self._once(
                tx, principal, request, "organization", read=tx.tenancy.get_organization, create=create
            )

        return await self._store.transact(work)

    async def create_project(self, principal: Principal, request: CreateProject) -> Project:
        """Create a project.

        Raises:
            NotFoundError: the organization is absent.
            AlreadyExistsError: the slug is taken.
            InvalidRequestError: REQUEST_ID_REUSED.
        """

        async def create(tx: Transaction) -> Project:
            if await tx.tenancy.get_organization(request.organization_id) is None:
                raise NotFoundError("organization", str(request.organization_id))
            made = await tx.tenancy.insert_project(
                project_id=self._new_id(),
                slug=request.slug,
                name=request.name,
                organization_id=request.organization_id,
            )
            if made is None:
                raise AlreadyExistsError("project", request.slug)
            return made

        async def work(tx: Transaction) -> Project:
            return await self._once(tx, principal, request, "project", read=tx.tenancy.get_project, create=create)

        return await self._store.transact(work)

    async def create_environment(
        self, principal: Principal, request: CreateEnvironment
    ) -> tuple[Environment, EnvironmentSecrets | None]:
        """Create an environment; returns it with its secrets, or with None when the request was a repeat.

        Raises:
            NotFoundError: the project is absent.
            AlreadyExistsError: the slug is taken in the project.
            InvalidRequestError: REQUEST_ID_REUSED.
        """

        async def work(tx: Transaction) -> tuple[Environment, EnvironmentSecrets | None]:
            shown: EnvironmentSecrets | None = None

            async def create(tx: Transaction) -> Environment:
                nonlocal shown
                environment_id = self._new_id()
                shown = EnvironmentSecrets(self._new_api_key(request.type), self._new_signing_secret())
                if await tx.tenancy.get_project(request.project_id) is None:
                    raise NotFoundError("project", str(request.project_id))
                made = await tx.tenancy.insert_environment(
                    environment_id=environment_id,
                    slug=request.slug,
                    environment_type=request.type,
                    project_id=request.project_id,
                    api_key_hash=self._key_hasher.hash_key(shown.api_key),
                    api_key_ciphertext=self._secret_box.seal(shown.api_key, environment_id=environment_id),
                    signing_secret_ciphertext=self._secret_box.seal(
                        shown.signing_secret, environment_id=environment_id
                    ),
                )
                if made is None:
                    raise AlreadyExistsError("environment", request.slug)
                return made

            environment = await self._once(
                tx, principal, request, "environment", read=tx.tenancy.get_environment, create=create
            )
            return environment, shown

        return await self._store.transact(work)

    async def get_environment(self, principal: Principal, environment_id: UUID) -> Environment:
        """Return an environment that the principal may see.

        Raises:
            NotFoundError: it is absent or of another organization.
            KongflowError: PERMISSION_DENIED, an API key asks for another environment of its organization.
        """
        async with self._store.reading() as tx:
            environment = await tx.tenancy.get_environment(environment_id)
        return require_environment(principal, environment, name=environment_id)

    async def list_environments(
        self, principal: Principal, wanted: EnvironmentFilter, page: PageRequest
    ) -> Page[Environment]:
        """Return a page of the environments that the principal may see, oldest first.

        Raises:
            NotFoundError: the filter names an organization or a project that is not the principal's; to an admin, a
                project that is not there.
        """
        organization_id = wanted.organization_id
        if principal.kind is not PrincipalKind.ADMIN:
            if organization_id not in (None, principal.organization_id):
                raise NotFoundError("organization", str(organization_id))
            organization_id = principal.organization_id
        async with self._store.reading(Pool.LISTS) as tx:
            if wanted.project_id is not None:
                project = await tx.tenancy.get_project(wanted.project_id)
                if project is None or organization_id not in (None, project.organization_id):
                    raise NotFoundError("project", str(wanted.project_id))
            rows = await tx.tenancy.list_environments(
                organization_id=organization_id,
                project_id=wanted.project_id,
                environment_id=principal.environment_id,
                limit=page.limit,
                after=_after(page),
            )
        return page_of(rows, page, lambda environment: str(environment.id))

    async def rotate_api_key(
        self, environment_id: UUID, *, overlap: timedelta = timedelta()
    ) -> tuple[Environment, str]:
        """Replace an environment's API key; returns the new one. The old one is good for `overlap`, 0 to 7 days.

        Raises:
            NotFoundError: the environment is absent.
        """

        async def work(tx: Transaction) -> tuple[Environment, str]:
            environment = await tx.tenancy.get_environment(environment_id)
            if environment is None:
                raise NotFoundError("environment", str(environment_id))
            api_key = self._new_api_key(environment.type)
            changed = await tx.tenancy.set_api_key(
                environment_id,
                api_key_hash=self._key_hasher.hash_key(api_key),
                api_key_ciphertext=self._secret_box.seal(api_key, environment_id=environment_id),
                overlap=overlap,
            )
            if changed is None:
                raise NotFoundError("environment", str(environment_id))
            return changed, api_key

        rotated = await self._store.transact(work)
        self._authentication.forget()
        return rotated

    async def rotate_signing_secret(self, environment_id: UUID, *, overlap: timedelta) -> RotatedSigningSecret:
        """Give an environment another signing secret; returns the new one, which is not shown again.

        For `overlap` calls are signed with the one before as well, so that an app that knows either accepts them. Every
        call makes another secret: a second one within the overlap ends the first of the three at once.

        Raises:
            NotFoundError: the environment is absent.
        """
        secret = self._new_signing_secret()
        sealed = self._secret_box.seal(secret, environment_id=environment_id)

        async def work(tx: Transaction) -> SigningSecretChange | None:
            return await tx.tenancy.set_signing_secret(environment_id, ciphertext=sealed, overlap=overlap)

        changed = await self._store.transact(work)
        if changed is None:
            raise NotFoundError("environment", str(environment_id))
        return RotatedSigningSecret(changed.environment, secret, changed.previous_expires_at)

    async def create_token(self, principal: Principal, request: CreateToken) -> tuple[Token, str | None]:
        """Create a token; returns it with its secret, or with None when the request was a repeat.

        Raises:
            NotFoundError: the organization is absent.
            InvalidRequestError: REQUEST_ID_REUSED, or `expires_at` is not in the future by the database's clock.
        """

        async def work(tx: Transaction) -> tuple[Token, str | None]:
            secret: str | None = None

            async def create(tx: Transaction) -> Token:
                nonlocal secret
                secret = self._new_token(request.kind.value.lower())
                return await self._insert_token(tx, request, secret)

            token = await self._once(tx, principal, request, "token", read=tx.tenancy.get_token, create=create)
            return token, secret

        return await self._store.transact(work)

    async def list_tokens(self, wanted: TokenFilter, page: PageRequest) -> Page[Token]:
        """Return a page of tokens, oldest first."""
        async with self._store.reading(Pool.LISTS) as tx:
            rows = await tx.tenancy.list_tokens(
                organization_id=wanted.organization_id,
                kind=wanted.kind,
                include_revoked=wanted.include_revoked,
                limit=page.limit,
                after=_after(page),
            )
        return page_of(rows, page, lambda token: str(token.id))

    async def revoke_token(self, token_id: UUID) -> Token:
        """Revoke a token; it is refused here at once. Revoking twice keeps the first time.

        Raises:
            NotFoundError: the token is absent.
        """

        async def work(tx: Transaction) -> Token | None:
            return await tx.tenancy.revoke_token(token_id)

        token = await self._store.transact(work)
        if token is None:
            raise NotFoundError("token", str(token_id))
        self._authentication.forget()
        return token

    async def rotate_token(self, token_id: UUID, *, overlap: timedelta = timedelta()) -> tuple[Token, str]:
        """Replace a token's secret; returns the new one. The old one is good for `overlap`, 0 to 7 days.

        Raises:
            NotFoundError: the token is absent.
            KongflowError: WRONG_STATE, the token is revoked.
        """

        async def work(tx: Transaction) -> tuple[Token, str]:
            token = await tx.tenancy.get_token(token_id)
            if token is None:
                raise NotFoundError("token", str(token_id))
            secret = self._new_token(token.kind.value.lower())
            changed = await tx.tenancy.rotate_token(
                token_id, token_hash=self._key_hasher.hash_key(secret), overlap=overlap
            )
            if changed is None:
                raise KongflowError(
                    "This token is revoked; create another one.",
                    reason=Reason.WRONG_STATE,
                    metadata={"resource": "token"},
                )
            return changed, secret

        rotated = await self._store.transact(work)
        self._authentication.forget()
        return rotated

    async def _insert_token(self, tx: Transaction, request: CreateToken, secret: str) -> Token:
        organization_id = request.organization_id
        if organization_id is not None and await tx.tenancy.get_organization(organization_id) is None:
            raise NotFoundError("organization", str(organization_id))
        token = await tx.tenancy.insert_token(
            token_id=self._new_id(),
            kind=request.kind,
            name=request.name,
            organization_id=organization_id,
            scopes=sorted(request.scopes, key=lambda scope: scope.value),
            token_hash=self._key_hasher.hash_key(secret),
            expires_at=request.expires_at,
        )
        if token.expires_at is not None and token.expires_at <= token.created_at:
            raise InvalidRequestError([FieldViolation("expire_time", "must be in the future")])
        return token

    async def _once(
        self,
        tx: Transaction,
        principal: Principal,
        request: CreateOrganization | CreateProject | CreateEnvironment | CreateToken,
        resource: str,
        *,
        read: Callable[[UUID], Awaitable[_Resource | None]],
        create: Callable[[Transaction], Awaitable[_Resource]],
    ) -> _Resource:
        """Create a resource, or read the one that the same request made before."""
        if request.request_id is None:
            return await create(tx)
        identity = (principal.name, type(request).__name__, request.request_id, request_hash(request))
        existing = await tx.requests.claim(*identity)
        if existing is not None:
            made_before = await read(existing)
            if made_before is None:
                raise NotFoundError(resource, str(existing))
            return made_before
        made = await create(tx)
        await tx.requests.record(*identity, made.id)
        return made


def _after(page: PageRequest) -> UUID | None:
    return None if page.after is None else UUID(page.after)
