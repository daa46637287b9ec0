"""The tenant tree and credentials on real PostgreSQL, below gRPC."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from services.endpoints.domain.errors import (
    AlreadyExistsError,
    InvalidRequestError,
    NotFoundError,
    Reason,
    UnauthenticatedError,
)
from services.endpoints.domain.identifiers import new_uuid7
from services.endpoints.domain.page import PageRequest
from services.endpoints.domain.request_hash import request_hash
from services.endpoints.domain.tenancy import EnvironmentType, Principal, PrincipalKind, Scope, TokenKind
from services.endpoints.operations.authentication import Authentication
from services.endpoints.operations.credential_uses import CredentialUses
from services.endpoints.operations.tenancy import (
    CreateEnvironment,
    CreateOrganization,
    CreateProject,
    CreateToken,
    EnvironmentFilter,
    TenancyOperations,
    TokenFilter,
)
from services.endpoints.secrets.key_hasher import HmacKeyHasher
from services.endpoints.secrets.secret_box import AesGcmSecretBox

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg

    from services.endpoints.domain.tenancy import Environment, Organization, Project
    from services.endpoints.store.postgres import PostgresStore

ADMIN = Principal(PrincipalKind.ADMIN, "admin", scopes=frozenset(Scope))
HASHER = HmacKeyHasher(pepper=b"p" * 32)
BOX = AesGcmSecretBox(keys=[b"k" * 32])


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Tenants:
    """The operations under test, with shorthands."""

    def __init__(self, store: PostgresStore) -> None:
        self.store = store
        self.clock = Clock()
        self.authentication = self.another_server()
        self.operations = TenancyOperations(
            store=store, secret_box=BOX, key_hasher=HASHER, authentication=self.authentication, new_id=new_uuid7
        )

    def another_server(self) -> Authentication:
        return Authentication(
            store=self.store,
            key_hasher=HASHER,
            admin_token="kf_admin_first",
            uses=CredentialUses(store=self.store),
            monotonic=self.clock,
        )

    async def organization(self, slug: str = "acme") -> Organization:
        return await self.operations.create_organization(ADMIN, CreateOrganization(slug, slug))

    async def project(self, organization: Organization) -> Project:
        request = CreateProject(organization.id, f"{organization.slug}-project", "Project")
        return await self.operations.create_project(ADMIN, request)

    async def environment(self, project: Project, slug: str = "dev") -> tuple[Environment, str]:
        request = CreateEnvironment(project.id, slug, EnvironmentType.DEVELOPMENT)
        environment, shown = await self.operations.create_environment(ADMIN, request)
        assert shown is not None
        return environment, shown.api_key

    async def token(self, **fields: object) -> tuple[UUID, str]:
        request = replace(CreateToken(TokenKind.ADMIN, "ops"), **fields)  # type: ignore[arg-type]
        token, secret = await self.operations.create_token(ADMIN, request)
        assert secret is not None
        return token.id, secret


@pytest.fixture
def tenants(store: PostgresStore) -> Tenants:
    return Tenants(store)


async def test_an_api_key_opens_its_environment_with_read_and_write(tenants: Tenants) -> None:
    organization = await tenants.organization()
    environment, api_key = await tenants.environment(await tenants.project(organization))
    assert api_key.startswith("tr_dev_")
    assert await tenants.authentication.authenticate(api_key) == Principal(
        PrincipalKind.ENVIRONMENT,
        f"environment:{environment.id}",
        organization_id=organization.id,
        environment_id=environment.id,
        scopes=frozenset({Scope.READ, Scope.WRITE}),
    )


async def test_a_key_is_stored_sealed_and_hashed_and_never_in_plain(
    tenants: Tenants, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    environment, api_key = await tenants.environment(await tenants.project(await tenants.organization()))
    _, secret = await tenants.token()
    row = await connection.fetchrow("SELECT api_key_hash, api_key_ciphertext FROM runtime_environments")
    assert row is not None
    assert row["api_key_hash"] == HASHER.hash_key(api_key)
    assert BOX.unseal(row["api_key_ciphertext"], environment_id=environment.id) == api_key
    for table in ("runtime_environments", "tokens"):
        text = str(await connection.fetch(f"SELECT to_jsonb({table})::text FROM {table}"))
        assert api_key not in text
        assert secret not in text


@pytest.mark.parametrize("credential", ["", "tr_dev_aaaaaaaaaaaaaaaaaaaa", "kf_admin_x", "kf_admin_first2", "a" * 201])
async def test_an_unknown_credential_is_nobody(tenants: Tenants, credential: str) -> None:
    with pytest.raises(UnauthenticatedError):
        await tenants.authentication.authenticate(credential)


async def test_the_first_admin_comes_from_the_settings(tenants: Tenants) -> None:
    assert await tenants.authentication.authenticate("kf_admin_first") == ADMIN


async def test_each_kind_of_token_becomes_its_kind_of_principal(tenants: Tenants) -> None:
    organization = await tenants.organization()
    service_id, service = await tenants.token(
        kind=TokenKind.SERVICE, organization_id=organization.id, scopes=frozenset({Scope.READ, Scope.OPERATE})
    )
    worker_id, worker = await tenants.token(kind=TokenKind.WORKER)
    admin_id, admin = await tenants.token(kind=TokenKind.ADMIN)
    recognise = tenants.authentication.authenticate
    assert await recognise(service) == Principal(
        PrincipalKind.SERVICE,
        f"token:{service_id}",
        organization_id=organization.id,
        scopes=frozenset({Scope.READ, Scope.OPERATE}),
    )
    assert await recognise(worker) == Principal(PrincipalKind.WORKER, f"token:{worker_id}")
    assert await recognise(admin) == Principal(PrincipalKind.ADMIN, f"token:{admin_id}", scopes=frozenset(Scope))


async def test_a_rotated_key_is_refused_here_at_once_and_elsewhere_after_five_seconds(tenants: Tenants) -> None:
    environment, old = await tenants.environment(await tenants.project(await tenants.organization()))
    elsewhere = tenants.another_server()
    await tenants.authentication.authenticate(old)
    await elsewhere.authenticate(old)
    _, new = await tenants.operations.rotate_api_key(environment.id)
    with pytest.raises(UnauthenticatedError):
        await tenants.authentication.authenticate(old)
    assert (await tenants.authentication.authenticate(new)).environment_id == environment.id
    assert (await elsewhere.authenticate(old)).environment_id == environment.id
    tenants.clock.now = 5.0
    with pytest.raises(UnauthenticatedError):
        await elsewhere.authenticate(old)


async def test_a_revoked_token_is_refused_at_once_and_keeps_its_first_time(tenants: Tenants) -> None:
    token_id, secret = await tenants.token()
    await tenants.authentication.authenticate(secret)
    first = await tenants.operations.revoke_token(token_id)
    with pytest.raises(UnauthenticatedError):
        await tenants.authentication.authenticate(secret)
    assert (await tenants.operations.revoke_token(token_id)).revoked_at == first.revoked_at is not None
    with pytest.raises(NotFoundError):
        await tenants.operations.revoke_token(uuid4())


async def test_a_token_is_trusted_no_longer_than_it_lives(
    tenants: Tenants, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    _, secret = await tenants.token(expires_at=datetime.now(UTC) + timedelta(hours=1))
    await connection.execute("UPDATE tokens SET expires_at = now() + interval '2 seconds'")
    await tenants.authentication.authenticate(secret)
    await connection.execute("UPDATE tokens SET expires_at = now() - interval '1 second'")
    await tenants.authentication.authenticate(secret)
    tenants.clock.now = 2.0
    with pytest.raises(UnauthenticatedError):
        await tenants.authentication.authenticate(secret)


async def test_a_token_must_expire_in_the_future(tenants: Tenants) -> None:
    with pytest.raises(InvalidRequestError, match="expire_time"):
        await tenants.token(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert (await tenants.operations.list_tokens(TokenFilter(), PageRequest())).items == ()


async def test_a_repeated_request_returns_the_resource_without_its_key(tenants: Tenants) -> None:
    organization = await tenants.organization()
    project = await tenants.project(organization)
    request = CreateEnvironment(project.id, "dev", EnvironmentType.DEVELOPMENT, request_id=uuid4())
    environment, shown = await tenants.operations.create_environment(ADMIN, request)
    assert shown is not None
    assert shown.signing_secret not in repr(shown)
    assert await tenants.operations.create_environment(ADMIN, request) == (environment, None)
    token_request = CreateToken(TokenKind.WORKER, "worker", request_id=uuid4())
    token, secret = await tenants.operations.create_token(ADMIN, token_request)
    assert secret is not None
    assert await tenants.operations.create_token(ADMIN, token_request) == (token, None)


async def test_a_request_id_with_another_request_is_refused(tenants: Tenants) -> None:
    request = CreateOrganization("one", "One", request_id=uuid4())
    made = await tenants.operations.create_organization(ADMIN, request)
    assert await tenants.operations.create_organization(ADMIN, request) == made
    with pytest.raises(InvalidRequestError) as caught:
        await tenants.operations.create_organization(ADMIN, replace(request, slug="two"))
    assert caught.value.reason is Reason.REQUEST_ID_REUSED
    assert [violation.field for violation in caught.value.violations] == ["request_id"]


async def test_a_request_id_belongs_to_its_caller(tenants: Tenants) -> None:
    request = CreateOrganization("one", "One", request_id=uuid4())
    await tenants.operations.create_organization(ADMIN, request)
    with pytest.raises(AlreadyExistsError):
        await tenants.operations.create_organization(replace(ADMIN, name="token:other"), request)


async def test_of_many_equal_requests_at_once_one_works_and_all_answer_the_same(tenants: Tenants) -> None:
    request = CreateOrganization("one", "One", request_id=uuid4())
    answers = await asyncio.gather(*(tenants.operations.create_organization(ADMIN, request) for _ in range(20)))
    assert {answer.id for answer in answers} == {answers[0].id}


async def test_a_request_id_is_forgotten_after_a_day(
    tenants: Tenants, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    request = CreateOrganization("one", "One", request_id=uuid4())
    await tenants.operations.create_organization(ADMIN, request)
    await connection.execute("UPDATE request_ids SET created_at = now() - interval '25 hours'")
    second = replace(request, slug="two")
    made = await tenants.operations.create_organization(ADMIN, second)
    assert await tenants.operations.create_organization(ADMIN, second) == made
    await connection.execute("UPDATE request_ids SET created_at = now() - interval '25 hours'")
    async with tenants.store.transaction() as tx:
        assert await tx.requests.delete_expired(limit=10) == 1
        assert await tx.requests.delete_expired(limit=10) == 0


async def test_a_failed_request_leaves_its_id_free(tenants: Tenants) -> None:
    await tenants.organization("taken")
    request = CreateOrganization("taken", "Taken", request_id=uuid4())
    with pytest.raises(AlreadyExistsError):
        await tenants.operations.create_organization(ADMIN, request)
    await tenants.operations.create_organization(ADMIN, replace(request, slug="free"))


async def test_names_are_unique_where_they_must_be(tenants: Tenants) -> None:
    project = await tenants.project(await tenants.organization())
    await tenants.environment(project)
    with pytest.raises(AlreadyExistsError):
        await tenants.environment(project)
    with pytest.raises(NotFoundError):
        await tenants.operations.create_environment(ADMIN, CreateEnvironment(uuid4(), "x", EnvironmentType.PREVIEW))
    with pytest.raises(NotFoundError):
        await tenants.operations.create_project(ADMIN, CreateProject(uuid4(), "x", "X"))
    with pytest.raises(NotFoundError):
        await tenants.token(kind=TokenKind.SERVICE, organization_id=uuid4(), scopes=frozenset({Scope.READ}))


async def test_everybody_lists_only_the_environments_they_may_see(tenants: Tenants) -> None:
    ours, theirs = await tenants.organization("ours"), await tenants.organization("theirs")
    our_project = await tenants.project(ours)
    first, key = await tenants.environment(our_project, "one")
    second, _ = await tenants.environment(our_project, "two")
    third, _ = await tenants.environment(await tenants.project(theirs), "three")
    service = Principal(PrincipalKind.SERVICE, "token:1", organization_id=ours.id, scopes=frozenset({Scope.READ}))
    api_key = await tenants.authentication.authenticate(key)

    async def seen(principal: Principal, **wanted: UUID) -> list[UUID]:
        page = await tenants.operations.list_environments(principal, EnvironmentFilter(**wanted), PageRequest())
        return [environment.id for environment in page.items]

    assert await seen(ADMIN) == sorted([first.id, second.id, third.id])
    assert await seen(ADMIN, organization_id=theirs.id) == [third.id]
    assert await seen(service) == sorted([first.id, second.id])
    assert await seen(service, project_id=our_project.id) == sorted([first.id, second.id])
    assert await seen(api_key) == [first.id]
    for wanted in ({"organization_id": theirs.id}, {"project_id": third.project_id}, {"project_id": uuid4()}):
        with pytest.raises(NotFoundError):
            await seen(service, **wanted)
    with pytest.raises(NotFoundError):
        await seen(ADMIN, project_id=uuid4())


async def test_lists_come_in_pages_that_neither_skip_nor_repeat(tenants: Tenants) -> None:
    made = [(await tenants.token(name=f"token {number}"))[0] for number in range(5)]
    seen: list[UUID] = []
    after: str | None = None
    while True:
        page = await tenants.operations.list_tokens(TokenFilter(), PageRequest(2, after))
        seen += [token.id for token in page.items]
        after = page.next_after
        if after is None:
            break
    # Ids made within one millisecond have no order among each other.
    assert seen == sorted(made)


async def test_revoked_tokens_are_listed_only_when_asked(tenants: Tenants) -> None:
    kept, _ = await tenants.token(kind=TokenKind.WORKER)
    revoked, _ = await tenants.token()
    await tenants.operations.revoke_token(revoked)

    async def listed(wanted: TokenFilter) -> list[UUID]:
        return [token.id for token in (await tenants.operations.list_tokens(wanted, PageRequest())).items]

    assert await listed(TokenFilter()) == [kept]
    assert await listed(TokenFilter(include_revoked=True)) == sorted([kept, revoked])
    assert await listed(TokenFilter(kind=TokenKind.ADMIN, include_revoked=True)) == [revoked]


def test_a_request_hash_differs_when_a_field_does_and_not_by_the_request_id() -> None:
    request = CreateToken(TokenKind.SERVICE, "a", uuid4(), frozenset({Scope.READ, Scope.WRITE}))
    assert request_hash(request) == request_hash(replace(request, request_id=uuid4()))
    assert request_hash(request) != request_hash(replace(request, name="b"))
    assert request_hash(request) != request_hash(replace(request, scopes=frozenset({Scope.READ})))
