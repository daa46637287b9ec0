"""Carries out an index: fetches what an endpoint offers and orders its registrations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from services.endpoints.domain.attempt import AttemptFailedError, SnoozedError
from services.endpoints.domain.attempt_reason import AttemptReason
from services.endpoints.domain.catalog import KINDS, new_queue_job
from services.endpoints.domain.endpoint_calls import EndpointCallError
from services.endpoints.domain.endpoint_health import finding_of_error
from services.endpoints.domain.endpoint_index import ABSENT, IndexSource, ItemKind, ItemState
from services.endpoints.domain.index_answer import Disposition, IndexAnswerError, IndexItem, read_index_answer
from services.endpoints.domain.json_text import dump_json
from services.endpoints.domain.lanes import endpoint_lane
from services.endpoints.domain.ports.catalog import OfferedItem
from services.endpoints.domain.ports.indexes import NewItem
from services.endpoints.domain.queue_job import Queue, QueueJob, QueueJobState
from services.endpoints.operations.call_addresses import call_address
from services.endpoints.operations.registration import REGISTRATION_KINDS, registration_args

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.endpoints.domain.endpoint import Endpoint
    from services.endpoints.domain.endpoint_calls import EndpointAddress
    from services.endpoints.domain.index_answer import IndexReading
    from services.endpoints.domain.json_text import JsonValue
    from services.endpoints.domain.ports.clock import NewId
    from services.endpoints.domain.ports.endpoint_client import EndpointClient
    from services.endpoints.domain.ports.ledger import Failure, FinalQueueJob
    from services.endpoints.domain.ports.secrets import SecretBox
    from services.endpoints.domain.ports.store import Transaction
    from services.endpoints.operations.endpoint_health import EndpointHealth
    from services.endpoints.operations.index_requests import IndexRequests

_SWITCHED_OFF: Final = "The endpoint offers it with enabled: false."
_MOVED: Final = "The endpoint got another url while the one before answered."
# One whose url changes again and again, as of two instances that each give it theirs, is not asked without pause.
MOVED_PAUSE: Final = timedelta(seconds=1)
_FIRST: Final = 1
# What the first attempt of an endpoint's first index finds: no older index, nothing unchanged, nothing absent.
_NOTHING_BEFORE: Final[tuple[list[UUID], set[tuple[ItemKind, str]], list[tuple[ItemKind, str]]]] = ([], set(), [])


@dataclass(frozen=True, slots=True)
class Fetch:
    """One fetch in flight."""

    endpoint: Endpoint
    address: EndpointAddress
    index_id: UUID
    sequence: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch brought: the answer read item by item, and, as text and no longer in `reading`, its data."""

    reading: IndexReading
    data_json: str


class IndexEndpoint:
    """The handler of `indexEndpoint`."""

    def __init__(
        self,
        *,
        client: EndpointClient,
        secret_box: SecretBox,
        requests: IndexRequests,
        health: EndpointHealth,
        new_id: NewId,
        max_items: int,
        registration_attempts: int,
    ) -> None:
        """Hold the ports; `max_items` bounds what one answer may offer, each registered in so many attempts."""
        self._registration_attempts = registration_attempts
        self._client = client
        self._secret_box = secret_box
        self._requests = requests
        self._health = health
        self._new_id = new_id
        self._max_items = max_items

    async def begin(self, tx: Transaction, queue_job: QueueJob) -> Fetch | None:
        """Draw the index's number and begin its window; None when the endpoint was deleted.

        The attempt that is forced, the first or the next when that was asked for, calls whatever the endpoint's health.

        Raises:
            SnoozedError: the endpoint fails and is left alone until its next probe.
        """
        endpoint_id, index_id = UUID(queue_job.args["id"]), UUID(queue_job.args["indexId"])
        endpoint = await tx.endpoints.get(endpoint_id)
        credential = await tx.endpoints.credential(endpoint.environment_id) if endpoint else None
        if endpoint is None or credential is None:
            return None
        is_forced = queue_job.args.get("force") is True
        if not (is_forced and queue_job.attempt == queue_job.args.get("forcedAttempt", _FIRST)):
            await self._health.admit(tx, endpoint)
        sequence = await tx.endpoints.draw_sequence(endpoint_id)
        if sequence is None or await tx.indexes.begin(index_id, sequence=sequence) is None:
            return None
        # After the endpoint, as whoever asks for an index does.
        await self._requests.close_window(
            tx,
            endpoint_id=endpoint_id,
            source=queue_job.args.get("source", IndexSource.MANUAL.value),
            environment_type=credential.environment.type,
            queue_job_id=queue_job.id,
        )
        address = call_address(self._secret_box, credential, slug=endpoint.slug, url=endpoint.url, call_id=queue_job.id)
        return Fetch(endpoint, address, index_id, sequence)

    async def call(self, begun: Fetch) -> Fetched:
        """Ask the endpoint what it offers and read the answer item by item.

        Raises:
            AttemptFailedError: it did not answer, or not with an index.
        """
        try:
            return (await self._client.index_endpoint(begun.address, read=self._read)).body
        except EndpointCallError as error:
            detail = f" ({error.detail})" if error.detail else ""
            raise AttemptFailedError(
                f"{error.message}{detail}",
                reason=AttemptReason.FAILED_INDEX,
                is_retryable=error.retryable,
                retry_after=error.retry_after,
            ) from error
        except IndexAnswerError as error:
            raise AttemptFailedError(str(error), reason=AttemptReason.FAILED_INDEX, is_retryable=False) from error

    async def finish(self, tx: Transaction, queue_job: QueueJob, begun: Fetch, answer: Fetched) -> None:
        """Store the answer, supersede what older indexes left waiting, and enqueue one registration per changed item.

        The order of the statements is the order of truth: each reads after the locks of the one before.

        Raises:
            SnoozedError: the endpoint got another url meanwhile, which is asked instead.
        """
        current = await tx.endpoints.get(begun.endpoint.id)
        if current is not None and current.url != begun.endpoint.url:
            raise SnoozedError(_MOVED, reason=AttemptReason.ENDPOINT_MOVED, delay=MOVED_PAUSE)
        endpoint, lane, reading = begun.endpoint, endpoint_lane(begun.endpoint.id), answer.reading
        accepted = [item for item in reading.items if item.disposition is Disposition.ACCEPTED]
        older, unchanged, disabled = _NOTHING_BEFORE
        if begun.sequence > _FIRST:
            await tx.ledger.supersede_lane(Queue.DEFAULT, lane, kinds=sorted(REGISTRATION_KINDS.values()))
            older = await tx.indexes.supersede_older(endpoint.id, sequence=begun.sequence)
            unchanged = await tx.catalog.renumber_unchanged(
                endpoint.id,
                sequence=begun.sequence,
                items=[OfferedItem(item.kind, item.key, item.version, item.content_hash) for item in accepted],
            )
            disabled = await tx.catalog.disable_absent(endpoint.id, sequence=begun.sequence, offered=reading.offered)
        changed = [item for item in accepted if (item.kind, item.key) not in unchanged]
        items = _items(reading.items, unchanged, disabled)
        await tx.indexes.store_answer(
            begun.index_id, data_json=answer.data_json, stats=_stats(reading, items), items=items
        )
        await tx.ledger.enqueue(
            [
                new_queue_job(
                    KINDS[REGISTRATION_KINDS[item.kind]],
                    registration_args(
                        item.kind,
                        item.payload,
                        endpoint_id=endpoint.id,
                        index_id=begun.index_id,
                        index_sequence=begun.sequence,
                    ),
                    queue_job_id=self._new_id(),
                    lane=lane,
                    environment_id=endpoint.environment_id,
                    max_attempts=self._registration_attempts,
                    priority=queue_job.priority,
                )
                for item in changed
            ]
        )
        await tx.endpoints.owe_no_index(endpoint.id)
        await self._health.note_answer(tx, endpoint)
        # With registrations to come, this index is not over, and `store_answer` said all there is to say of it.
        if unsettled := older if changed else [*older, begun.index_id]:
            await self._requests.settle(tx, unsettled)

    def _read(self, body: JsonValue) -> Fetched:
        reading = read_index_answer(body, max_items=self._max_items)
        return Fetched(replace(reading, data={}), dump_json(reading.data))

    async def on_call_failed(self, tx: Transaction, begun: Fetch, error: Exception) -> None:
        """Note what the failed call says about the endpoint's health."""
        if finding := finding_of_error(error.__cause__):
            await self._health.note(tx, begun.endpoint, finding)

    async def on_failed(self, tx: Transaction, queue_job: QueueJob, failure: Failure) -> None:
        """Show why the index still waits."""
        await tx.indexes.wait_again(UUID(queue_job.args["indexId"]), error=failure.message)

    async def on_final(self, tx: Transaction, queue_jobs: Sequence[FinalQueueJob]) -> None:
        """End the indexes whose fetch failed for good or was cancelled, and let the next one run at once."""
        failed = [queue_job for queue_job in queue_jobs if queue_job.state is not QueueJobState.COMPLETED]
        await self._requests.open_window(tx, [queue_job.id for queue_job in failed])
        for queue_job in failed:
            error = queue_job.message or "The index was cancelled."
            await tx.indexes.fail(UUID(queue_job.args["indexId"]), error=error)


def _items(
    found: Sequence[IndexItem], unchanged: set[tuple[ItemKind, str]], disabled: Sequence[tuple[ItemKind, str]]
) -> list[NewItem]:
    items = [
        NewItem(
            ordinal=item.ordinal,
            kind=item.kind,
            key=item.key,
            version=item.version,
            state=_state(item, unchanged),
            reason=_SWITCHED_OFF if item.disposition is Disposition.DISABLED else item.reason,
        )
        for item in found
    ]
    listed = {(item.kind, item.key) for item in found}
    absent = [each for each in disabled if each not in listed]
    items += [
        NewItem(len(found) + place, kind, key, None, ItemState.DISABLED, ABSENT)
        for place, (kind, key) in enumerate(absent)
    ]
    return items


def _state(item: IndexItem, unchanged: set[tuple[ItemKind, str]]) -> ItemState:
    if item.disposition is Disposition.ACCEPTED:
        return ItemState.UNCHANGED if (item.kind, item.key) in unchanged else ItemState.PENDING
    return ItemState[item.disposition.name]


def _stats(reading: IndexReading, items: Sequence[NewItem]) -> Mapping[str, int]:
    states = Counter(item.state for item in items)
    disabled_jobs = sum(item.state is ItemState.DISABLED and item.kind is ItemKind.JOB for item in items)
    return {
        **reading.found,
        "disabledJobs": disabled_jobs,
        "failedItems": states[ItemState.REFUSED],
        "unchangedItems": states[ItemState.UNCHANGED],
    }
