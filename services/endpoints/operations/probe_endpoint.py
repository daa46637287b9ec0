"""Probes an endpoint that fails: one ping, for which somebody or nobody waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from services.endpoints.domain.endpoint import EndpointState
from services.endpoints.domain.endpoint_health import finding_of_ping
from services.endpoints.operations.call_addresses import call_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.endpoints.domain.endpoint import Endpoint
    from services.endpoints.domain.endpoint_calls import EndpointAddress, PingResult
    from services.endpoints.domain.ports.endpoint_client import EndpointClient
    from services.endpoints.domain.ports.ledger import Failure, FinalQueueJob
    from services.endpoints.domain.ports.secrets import SecretBox
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.domain.queue_job import QueueJob
    from services.endpoints.operations.endpoint_health import EndpointHealth


@dataclass(frozen=True, slots=True)
class Probe:
    """One probe in flight."""

    endpoint: Endpoint
    address: EndpointAddress


class ProbeEndpoint:
    """The handler of `probeEndpoint`; a probe that finds the endpoint away has done what it was for."""

    def __init__(self, *, client: EndpointClient, secret_box: SecretBox, health: EndpointHealth) -> None:
        """Hold the ports."""
        self._client = client
        self._secret_box = secret_box
        self._health = health

    async def begin(self, tx: Transaction, queue_job: QueueJob) -> Probe | None:
        """Take the call that the endpoint is due; None when it is well, gone, or was called meanwhile."""
        endpoint = await tx.endpoints.get(UUID(queue_job.args["id"]))
        if endpoint is None or endpoint.state is EndpointState.HEALTHY:
            return None
        credential = await tx.endpoints.credential(endpoint.environment_id)
        if credential is None or not await self._health.claim_probe(tx, endpoint):
            return None
        address = call_address(self._secret_box, credential, slug=endpoint.slug, url=endpoint.url, call_id=queue_job.id)
        return Probe(endpoint, address)

    async def call(self, begun: Probe) -> PingResult:
        """Ping the endpoint once."""
        return await self._client.ping(begun.address)

    async def finish(self, tx: Transaction, _queue_job: QueueJob, begun: Probe, answer: PingResult) -> None:
        """Store what the ping found out."""
        await self._health.note(tx, begun.endpoint, finding_of_ping(answer))

    async def on_call_failed(self, tx: Transaction, begun: Probe, error: Exception) -> None:
        """Do nothing: a ping that fails is an answer, and anything else is a defect of ours."""

    async def on_failed(self, tx: Transaction, queue_job: QueueJob, failure: Failure) -> None:
        """Do nothing: the next one comes by the clock."""

    async def on_final(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        """Let the next probes be asked for, whatever came of these."""
        for queue_job in sorted(queue_jobs, key=lambda each: str(each.args["id"])):
            await tx.endpoints.forget_probe(UUID(queue_job.args["id"]), queue_job_id=queue_job.id)
