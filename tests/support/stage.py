"""Two tenants on one service, their callers, and tables of calls that must be refused."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from kongflow.v1 import endpoint_service_pb2 as endpoints

from tests.support.rpc import ADMIN_TOKEN, Refusal, refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping

    import asyncpg
    import grpc
    from kongflow.v1.endpoint_pb2 import Endpoint

    from tests.support.rpc import Caller, Service, Tenant

URL = "http://127.0.0.1:9/api/trigger"
STORED = ("endpoints", "endpoint_indexes", "queue_jobs", "request_ids", "tokens", "organizations", "projects")


Row: TypeAlias = "tuple[Awaitable[Any], grpc.StatusCode, str, list[str]]"


@dataclass(slots=True)
class Stage:
    """Two tenants and their callers."""

    service: Service
    ours: Tenant
    theirs: Tenant
    admin: Caller = field(init=False)
    writer: Caller = field(init=False)
    reader: Caller = field(init=False)
    developer: Caller = field(init=False)
    worker: Caller = field(init=False)

    def __post_init__(self) -> None:
        self.admin = self.service.caller(ADMIN_TOKEN)
        self.writer = self.service.caller(self.ours.service_token)
        self.reader = self.service.caller(self.ours.reader_token)
        self.developer = self.service.caller(self.ours.development_key)
        self.worker = self.service.caller(self.ours.worker_token)

    def create(self, **changes: str) -> Awaitable[Any]:
        fields = {"environment_id": self.ours.development.id, "slug": "app", "url": URL, **changes}
        answer: Awaitable[Any] = self.writer.endpoints.CreateEndpoint(endpoints.CreateEndpointRequest(**fields))
        return answer

    async def store_endpoint(self, *, environment_id: str | None = None, slug: str = "app", url: str = URL) -> Endpoint:
        request = endpoints.UpsertEndpointRequest(
            environment_id=environment_id or self.ours.development.id, slug=slug, url=url
        )
        stored: Endpoint = (await self.writer.endpoints.UpsertEndpoint(request)).endpoint
        return stored


@asynccontextmanager
async def nothing_stored(connection: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[None]:
    before = await counts(connection)
    yield
    assert await counts(connection) == before


async def counts(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, int]:
    return {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in STORED}


async def differing(rows: Mapping[str, Row]) -> dict[str, Refusal]:
    """Make every call and return the refusals that are not as the table says."""
    wrong = {}
    for name, (call, code, reason, fields) in rows.items():
        refusal = await refused(call)
        is_right = (refusal.code, refusal.reason, refusal.fields) == (code, reason, fields)
        if not is_right or refusal.domain != "kongflow.v1":
            wrong[name] = refusal
    return wrong
