from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
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

from services.endpoints.rpc import enums

if TYPE_CHECKING:
    from collections.abc import Mapping


@pytest.mark.parametrize(
    ("by_member", "contract"),
    [
        (enums.ENVIRONMENT_TYPE, environment_pb2.EnvironmentType),
        (enums.TOKEN_KIND, token_pb2.TokenKind),
        (enums.TOKEN_SCOPE, token_pb2.TokenScope),
        (enums.ENDPOINT_STATE, endpoint_pb2.EndpointState),
        (enums.INDEX_SOURCE, endpoint_index_pb2.EndpointIndexSource),
        (enums.INDEX_STATE, endpoint_index_pb2.EndpointIndexState),
        (enums.ITEM_KIND, endpoint_index_item_pb2.EndpointIndexItemKind),
        (enums.ITEM_STATE, endpoint_index_item_pb2.EndpointIndexItemState),
        (enums.EVENT_STATE, event_pb2.EventState),
        (enums.PAYLOAD_TYPE, event_pb2.PayloadType),
        (enums.INVOCATION_STATE, event_invocation_pb2.EventInvocationState),
        (enums.RUN_STATE, run_pb2.RunState),
        (enums.VERDICT, event_explanation_pb2.DispatcherVerdict),
        (enums.DISPATCHER_ORIGIN, dispatcher_pb2.DispatcherOrigin),
        (enums.PRIORITY, priority_pb2.Priority),
        (enums.QUEUE, queue_pb2.Queue),
        (enums.QUEUE_JOB_STATE, queue_job_pb2.QueueJobState),
        (enums.START_POSITION, job_version_pb2.JobStartPosition),
        (enums.SOURCE_CHANNEL, source_pb2.SourceChannel),
        (enums.DYNAMIC_TRIGGER_TYPE, dynamic_trigger_pb2.DynamicTriggerType),
    ],
    ids=lambda value: getattr(getattr(value, "DESCRIPTOR", None), "name", ""),
)
def test_contract_and_domain_have_the_same_members(by_member: Mapping[Any, int], contract: Any) -> None:
    assert sorted(by_member.values()) == [number for number in sorted(contract.values()) if number != 0]
    assert enums.members(by_member) == {number: member for member, number in by_member.items()}
