"""Enums of the contract and of the domain, by name: a missing name is a defect that shows at import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

from kongflow.v1 import (
    dispatcher_pb2,
    dynamic_trigger_pb2,
    endpoint_index_item_pb2,
    endpoint_index_pb2,
    endpoint_pb2,
    environment_pb2,
    event_explanation_pb2,
    event_invocation_pb2,
    event_pb2,
    job_version_pb2,
    priority_pb2,
    queue_job_pb2,
    queue_pb2,
    run_pb2,
    source_pb2,
    token_pb2,
)

from services.endpoints.domain.dispatcher import DispatcherOrigin
from services.endpoints.domain.endpoint import EndpointState
from services.endpoints.domain.endpoint_index import IndexSource, IndexState, ItemKind, ItemState
from services.endpoints.domain.event import EventState, PayloadType
from services.endpoints.domain.explanation import Verdict
from services.endpoints.domain.queue_job import Priority, Queue, QueueJobState
from services.endpoints.domain.run import InvocationState, RunState
from services.endpoints.domain.tenancy import EnvironmentType, Scope, TokenKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from enum import Enum

_Member = TypeVar("_Member", bound="Enum")


def numbers(members: type[_Member], contract: Any, prefix: str) -> dict[_Member, Any]:  # noqa: ANN401 - generated types
    """Return the contract's number of each member of a domain enum."""
    return {member: contract.Value(f"{prefix}{member.name}") for member in members}


def members(by_member: Mapping[_Member, int]) -> dict[int, _Member]:
    """Return the domain's member of each of the contract's numbers."""
    return {number: member for member, number in by_member.items()}


ENVIRONMENT_TYPE: Final = numbers(EnvironmentType, environment_pb2.EnvironmentType, "ENVIRONMENT_TYPE_")
TOKEN_KIND: Final = numbers(TokenKind, token_pb2.TokenKind, "TOKEN_KIND_")
TOKEN_SCOPE: Final = numbers(Scope, token_pb2.TokenScope, "TOKEN_SCOPE_")
ENDPOINT_STATE: Final = numbers(EndpointState, endpoint_pb2.EndpointState, "ENDPOINT_STATE_")
INDEX_SOURCE: Final = numbers(IndexSource, endpoint_index_pb2.EndpointIndexSource, "ENDPOINT_INDEX_SOURCE_")
INDEX_STATE: Final = numbers(IndexState, endpoint_index_pb2.EndpointIndexState, "ENDPOINT_INDEX_STATE_")
ITEM_KIND: Final = numbers(ItemKind, endpoint_index_item_pb2.EndpointIndexItemKind, "ENDPOINT_INDEX_ITEM_KIND_")
ITEM_STATE: Final = numbers(ItemState, endpoint_index_item_pb2.EndpointIndexItemState, "ENDPOINT_INDEX_ITEM_STATE_")
EVENT_STATE: Final = numbers(EventState, event_pb2.EventState, "EVENT_STATE_")
PAYLOAD_TYPE: Final = numbers(PayloadType, event_pb2.PayloadType, "PAYLOAD_TYPE_")
INVOCATION_STATE: Final = numbers(InvocationState, event_invocation_pb2.EventInvocationState, "EVENT_INVOCATION_STATE_")
RUN_STATE: Final = numbers(RunState, run_pb2.RunState, "RUN_STATE_")
VERDICT: Final = numbers(Verdict, event_explanation_pb2.DispatcherVerdict, "DISPATCHER_VERDICT_")
DISPATCHER_ORIGIN: Final = numbers(DispatcherOrigin, dispatcher_pb2.DispatcherOrigin, "DISPATCHER_ORIGIN_")
PRIORITY: Final = numbers(Priority, priority_pb2.Priority, "PRIORITY_")
QUEUE: Final = numbers(Queue, queue_pb2.Queue, "QUEUE_")
QUEUE_JOB_STATE: Final = numbers(QueueJobState, queue_job_pb2.QueueJobState, "QUEUE_JOB_STATE_")

# The catalog keeps these words as the protocol writes them.
START_POSITION: Final = {
    "INITIAL": job_version_pb2.JOB_START_POSITION_INITIAL,
    "LATEST": job_version_pb2.JOB_START_POSITION_LATEST,
}
SOURCE_CHANNEL: Final = {
    "HTTP": source_pb2.SOURCE_CHANNEL_HTTP,
    "SQS": source_pb2.SOURCE_CHANNEL_SQS,
    "SMTP": source_pb2.SOURCE_CHANNEL_SMTP,
}
DYNAMIC_TRIGGER_TYPE: Final = {
    "EVENT": dynamic_trigger_pb2.DYNAMIC_TRIGGER_TYPE_EVENT,
    "SCHEDULE": dynamic_trigger_pb2.DYNAMIC_TRIGGER_TYPE_SCHEDULE,
}
