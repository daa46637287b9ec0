"""From the domain to messages: tenancy, endpoints, indexes and queue jobs. Empty means none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.duration_pb2 import Duration
from kongflow.v1 import (
    endpoint_index_item_pb2,
    endpoint_index_pb2,
    endpoint_pb2,
    environment_pb2,
    organization_pb2,
    project_pb2,
    queue_job_pb2,
    queue_pause_pb2,
    queue_stats_pb2,
    token_pb2,
)

from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.queue_job import QueueJobState
from services.endpoints.rpc import enums

if TYPE_CHECKING:
    from uuid import UUID

    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from services.endpoints.domain.endpoint import Endpoint
    from services.endpoints.domain.endpoint_index import EndpointIndex, EndpointIndexItem
    from services.endpoints.domain.queue_job import QueueJobRecord
    from services.endpoints.domain.queue_stats import Latency, QueuePause, QueueStats
    from services.endpoints.domain.tenancy import Environment, Organization, Project, Token

_Message = TypeVar("_Message", bound="Message")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS_OF_A_DAY: Final = 86_400
_STATS: Final = {
    "jobs": "jobs",
    "sources": "sources",
    "dynamicTriggers": "dynamic_triggers",
    "dynamicSchedules": "dynamic_schedules",
    "disabledJobs": "disabled_jobs",
    "failedItems": "failed_items",
    "unchangedItems": "unchanged_items",
}


def dated(message: _Message, **times: datetime | None) -> _Message:
    """Return a message with its fields of these names set to times with their microseconds; None leaves one unset.

    They are written where they stay. A Timestamp made by itself is copied by writing and reading it, which took a third
    of the time of a page.
    """
    for name, value in times.items():
        if value is not None:
            since = value - _EPOCH
            field: Timestamp = getattr(message, name)
            field.seconds = since.days * _SECONDS_OF_A_DAY + since.seconds
            field.nanos = since.microseconds * 1000
    return message


def duration(value: timedelta) -> Duration:
    """Return a length of time with its microseconds."""
    message = Duration()
    message.FromTimedelta(value)
    return message


def optional_id(value: UUID | None) -> str:
    """Return an id as text; empty for none and for the nil UUID, which means none in the ledger."""
    return "" if value is None or value == NIL_UUID else str(value)


def organization_message(organization: Organization) -> organization_pb2.Organization:
    """Return an organization."""
    return dated(
        organization_pb2.Organization(
            id=str(organization.id),
            slug=organization.slug,
            title=organization.title,
        ),
        create_time=organization.created_at,
        update_time=organization.updated_at,
    )


def project_message(project: Project) -> project_pb2.Project:
    """Return a project."""
    return dated(
        project_pb2.Project(
            id=str(project.id),
            slug=project.slug,
            name=project.name,
            organization_id=str(project.organization_id),
        ),
        create_time=project.created_at,
        update_time=project.updated_at,
    )


def environment_message(environment: Environment) -> environment_pb2.Environment:
    """Return an environment; its key is not part of it."""
    return dated(
        environment_pb2.Environment(
            id=str(environment.id),
            slug=environment.slug,
            type=enums.ENVIRONMENT_TYPE[environment.type],
            organization_id=str(environment.organization_id),
            project_id=str(environment.project_id),
        ),
        create_time=environment.created_at,
        update_time=environment.updated_at,
        api_key_last_use_time=environment.api_key_last_used_at,
    )


def token_message(token: Token) -> token_pb2.Token:
    """Return a token without its secret; scopes in the contract's order."""
    return dated(
        token_pb2.Token(
            id=str(token.id),
            kind=enums.TOKEN_KIND[token.kind],
            name=token.name,
            organization_id=optional_id(token.organization_id),
            scopes=sorted(enums.TOKEN_SCOPE[scope] for scope in token.scopes),
        ),
        expire_time=token.expires_at,
        revoke_time=token.revoked_at,
        create_time=token.created_at,
        last_use_time=token.last_used_at,
    )


def endpoint_message(endpoint: Endpoint, *, with_hook_identifier: bool) -> endpoint_pb2.Endpoint:
    """Return an endpoint; the hook identifier is a credential and goes to those only who may see it."""
    return dated(
        endpoint_pb2.Endpoint(
            id=str(endpoint.id),
            slug=endpoint.slug,
            url=endpoint.url,
            environment_id=str(endpoint.environment_id),
            organization_id=str(endpoint.organization_id),
            project_id=str(endpoint.project_id),
            state=enums.ENDPOINT_STATE[endpoint.state],
            indexing_hook_identifier=endpoint.indexing_hook_identifier if with_hook_identifier else "",
            consecutive_failures=endpoint.consecutive_failures,
            state_reason=endpoint.state_reason or "",
        ),
        create_time=endpoint.created_at,
        update_time=endpoint.updated_at,
        state_change_time=endpoint.state_changed_at,
        next_probe_time=endpoint.next_probe_at,
        quiet_until_time=endpoint.quiet_until,
    )


def index_message(index: EndpointIndex) -> endpoint_index_pb2.EndpointIndex:
    """Return an index, with its data when that was read."""
    stats = endpoint_index_pb2.EndpointIndexStats(
        **{field: index.stats[key] for key, field in _STATS.items() if key in index.stats}
    )
    return dated(
        endpoint_index_pb2.EndpointIndex(
            id=str(index.id),
            endpoint_id=str(index.endpoint_id),
            state=enums.INDEX_STATE[index.state],
            source=enums.INDEX_SOURCE[index.source],
            reason=index.reason or "",
            error=index.error or "",
            source_data_json=index.source_data_json or "",
            stats=stats,
            data_json=index.data_json or "",
            revision=index.revision,
            sequence=index.sequence or 0,
            queue_job_id=str(index.queue_job_id),
            items=index.items,
            pending_items=index.pending_items,
        ),
        create_time=index.created_at,
        update_time=index.updated_at,
    )


def item_message(item: EndpointIndexItem) -> endpoint_index_item_pb2.EndpointIndexItem:
    """Return an item of an index."""
    return endpoint_index_item_pb2.EndpointIndexItem(
        ordinal=item.ordinal,
        kind=enums.ITEM_KIND[item.kind],
        key=item.key,
        version=item.version or "",
        state=enums.ITEM_STATE[item.state],
        reason=item.reason or "",
    )


def queue_job_message(queue_job: QueueJobRecord) -> queue_job_pb2.QueueJob:
    """Return a queue job, with its args when they were read."""
    return dated(
        queue_job_pb2.QueueJob(
            id=str(queue_job.id),
            environment_id=optional_id(queue_job.environment_id),
            kind=queue_job.kind,
            args_json=queue_job.args_json or "",
            queue=enums.QUEUE[queue_job.queue],
            lane=queue_job.lane,
            priority=enums.PRIORITY[queue_job.priority],
            state=enums.QUEUE_JOB_STATE[queue_job.state],
            attempt=queue_job.attempt,
            max_attempts=queue_job.max_attempts,
            rescues=queue_job.rescues,
            errors=[
                dated(
                    queue_job_pb2.QueueJobError(
                        attempt=error.attempt,
                        reason=error.reason,
                        message=error.message,
                    ),
                    time=error.time,
                )
                for error in queue_job.errors
            ],
        ),
        run_time=queue_job.run_at,
        cancel_request_time=queue_job.cancel_requested_at,
        create_time=queue_job.created_at,
        start_time=queue_job.started_at,
        finalize_time=queue_job.finalized_at,
    )


def queue_stats_message(stats: QueueStats) -> queue_stats_pb2.QueueStats:
    """Return the state of a queue in numbers; states in the contract's order, those without any left out."""
    counts = sorted((enums.QUEUE_JOB_STATE[state], count) for state, count in stats.counts.items() if count)
    capped = {enums.QUEUE_JOB_STATE[state] for state in stats.capped}
    has_available = stats.counts.get(QueueJobState.AVAILABLE, 0) > 0
    return queue_stats_pb2.QueueStats(
        queue=enums.QUEUE[stats.queue],
        counts=[
            queue_stats_pb2.QueueStateCount(state=state, count=count, is_capped=state in capped)
            for state, count in counts
        ],
        oldest_available_age=duration(timedelta(seconds=stats.oldest_available_seconds)) if has_available else None,
        open_lanes=stats.open_lanes,
        unknown_kinds=stats.unknown_kinds,
        completed_per_second=stats.completed_per_second,
        discarded_per_second=stats.discarded_per_second,
        pickup=latency_message(stats.pickup) if stats.pickup is not None else None,
        pauses=map(pause_message, stats.pauses),
    )


def latency_message(latency: Latency) -> queue_stats_pb2.QueueLatency:
    """Return percentiles."""
    return queue_stats_pb2.QueueLatency(
        p50=duration(latency.p50), p95=duration(latency.p95), p99=duration(latency.p99), measured=latency.measured
    )


def pause_message(pause: QueuePause) -> queue_pause_pb2.QueuePause:
    """Return a pause."""
    return dated(
        queue_pause_pb2.QueuePause(
            queue=enums.QUEUE[pause.queue],
            lane=pause.lane or "",
            paused_by=pause.paused_by,
            reason=pause.reason,
        ),
        create_time=pause.created_at,
    )
