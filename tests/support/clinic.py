"""Endpoints that fail and recover while a test turns the clock: times are moved back in the database."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from kongflow.v1 import endpoint_service_pb2

from tests.support.fake_endpoint import FakeEndpoint, status

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.fake_endpoint import Behaviour
    from tests.support.operator import Operator

_MOVES = (
    "UPDATE endpoints SET next_probe_at = next_probe_at - $1::interval, next_index_at = next_index_at - $1::interval",
    "UPDATE endpoints SET quiet_until = quiet_until - $1::interval",
    "UPDATE queue_jobs SET run_at = run_at - $1::interval WHERE state = 'SCHEDULED'",
    "UPDATE queue_uniques SET expires_at = expires_at - $1::interval",
)
_RETRIED_WITHIN = timedelta(seconds=10)
_HEALTH = """
SELECT
    state, consecutive_failures, state_reason, next_probe_at - clock_timestamp() AS next_probe_in, next_probe_at,
    probe_queue_job_id
FROM endpoints WHERE id = $1
"""


@dataclass(slots=True)
class Clinic:
    """One registered endpoint, which answered when it was registered, and all that happens to it."""

    operator: Operator
    endpoint: FakeEndpoint
    id: str

    @property
    def calls(self) -> int:
        """How often the endpoint was called, whatever for."""
        return len(self.endpoint.journal)

    async def health(self) -> Any:
        return await self.operator.connection.fetchrow(_HEALTH, self.id)

    async def state(self) -> str:
        return str((await self.health())["state"])

    async def pass_time(self, by: timedelta) -> None:
        """Turn the clock forward and do what is due."""
        for move in _MOVES:
            await self.operator.connection.execute(move, by)
        await self.operator.stage.service.operations.endpoint_upkeep.run_once()
        await self.operator.work_off()

    async def pass_time_until_probe(self) -> None:
        """Turn the clock to just after the next probe is due."""
        await self.pass_time((await self.health())["next_probe_in"])

    async def ask(self, **fields: Any) -> Any:
        """Ask for an index."""
        request = endpoint_service_pb2.IndexEndpointRequest(endpoint_id=self.id, **fields)
        return await self.operator.caller.endpoints.IndexEndpoint(request)

    async def shown(self) -> Any:
        """Return the endpoint as the contract shows it."""
        request = endpoint_service_pb2.GetEndpointRequest(endpoint_id=self.id)
        return (await self.operator.caller.endpoints.GetEndpoint(request)).endpoint

    async def fall_ill(self, behaviour: Behaviour | None = None) -> None:
        """Let the endpoint misbehave, with 503 unless said otherwise, until its breaker opens."""
        self.endpoint.behaviour = behaviour or status(503)
        await self.ask(force=True)
        await self.operator.work_off()
        while await self.state() == "HEALTHY":
            await self.operator.connection.execute(_MOVES[2], _RETRIED_WITHIN)
            await self.operator.work_off()


@asynccontextmanager
async def clinic_of(operator: Operator, *, production: bool = True) -> AsyncIterator[Clinic]:
    """Register one endpoint that answers, in PRODUCTION unless said otherwise."""
    ours = operator.stage.ours
    async with FakeEndpoint(api_key=ours.production_key if production else ours.development_key) as endpoint:
        created = await operator.create(endpoint, production=production)
        await operator.work_off()
        endpoint.journal.clear()
        yield Clinic(operator, endpoint, created.endpoint.id)
