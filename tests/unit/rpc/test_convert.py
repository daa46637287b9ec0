from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from kongflow.v1 import job_pb2, job_version_pb2, queue_job_pb2, queue_pb2, source_pb2

from services.endpoints.domain.catalog_entries import (
    DynamicTrigger,
    EventExample,
    Job,
    JobIntegration,
    JobQueue,
    JobVersion,
    Schedule,
    Source,
)
from services.endpoints.domain.endpoint_index import EndpointIndex, IndexSource, IndexState
from services.endpoints.domain.identifiers import NIL_UUID
from services.endpoints.domain.queue_job import (
    Priority,
    Queue,
    QueueJobError,
    QueueJobRecord,
    QueueJobState,
)
from services.endpoints.domain.queue_stats import QueueStats
from services.endpoints.rpc.convert import dated, index_message, queue_job_message, queue_stats_message
from services.endpoints.rpc.convert_catalog import (
    dynamic_trigger_message,
    job_message,
    schedule_message,
    source_message,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ID, OTHER = UUID(int=1), UUID(int=2)

VERSION = JobVersion(
    id=ID,
    version="1.2.3",
    is_active=True,
    endpoint_id=OTHER,
    endpoint_slug="app",
    trigger_type="static",
    trigger_json='{"n":9007199254740993}',
    event_names=("a", "b"),
    event_specification_json="{}",
    properties_json=None,
    start_position="INITIAL",
    preprocess_runs=True,
    concurrency_limit_json="5",
    queue=JobQueue("slow", 7),
    integrations=(JobIntegration("gh", "github", "GitHub", "github", "GitHub", "LOCAL", "COMPLETE"),),
    examples=(EventExample("one", "One", None, "{}"),),
    created_at=NOW,
    updated_at=NOW,
)
SCHEDULE = Schedule(
    id=ID,
    key="nightly",
    schedule_json="{}",
    active=True,
    job_id=OTHER,
    job_slug="nightly",
    dynamic_trigger_id=None,
    dynamic_schedule_slug=None,
    environment_id=ID,
    last_event_at=None,
    next_event_at=NOW,
    created_at=NOW,
    updated_at=NOW,
)


@pytest.mark.parametrize(
    "time",
    [
        NOW,
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        NOW.astimezone(timezone(timedelta(hours=-7))),
    ],
    ids=str,
)
def test_a_time_is_written_as_the_library_writes_it(time: datetime) -> None:
    expected = Timestamp()
    expected.FromDatetime(time)
    message = dated(job_pb2.Job(slug="a"), create_time=time, update_time=None)
    assert message.HasField("create_time")
    assert message.create_time == expected
    assert not message.HasField("update_time")


def test_a_time_that_a_message_does_not_have_is_a_defect() -> None:
    with pytest.raises(AttributeError):
        dated(job_pb2.Job(), run_time=NOW)


def test_a_job_keeps_its_json_as_text_and_its_times_to_the_microsecond() -> None:
    message = job_message(Job(ID, "hello", "Hello", False, OTHER, VERSION, NOW, NOW))
    version = message.latest_version
    assert message.create_time.ToDatetime(tzinfo=UTC) == NOW
    assert version.trigger_json == '{"n":9007199254740993}'
    assert version.state == job_version_pb2.JOB_VERSION_STATE_ACTIVE
    assert version.start_position == job_version_pb2.JOB_START_POSITION_INITIAL
    assert (version.queue.name, version.queue.max_jobs) == ("slow", 7)
    assert (version.integrations[0].key, version.integrations[0].auth_source) == ("gh", "LOCAL")
    assert (version.examples[0].icon, version.examples[0].payload_json) == ("", "{}")
    assert list(version.event_names) == ["a", "b"]
    assert version.properties_json == ""


def test_a_disabled_version_without_a_queue() -> None:
    message = job_message(
        Job(ID, "hello", "Hello", True, OTHER, replace(VERSION, is_active=False, queue=None), NOW, NOW)
    )
    assert message.internal
    assert message.latest_version.state == job_version_pb2.JOB_VERSION_STATE_DISABLED
    assert not message.latest_version.HasField("queue")


def test_a_schedule_names_the_one_it_belongs_to() -> None:
    of_job = schedule_message(SCHEDULE)
    assert (of_job.WhichOneof("owner"), of_job.job.id, of_job.job.slug) == ("job", str(OTHER), "nightly")
    assert not of_job.HasField("last_event_time")
    assert of_job.HasField("next_event_time")
    of_dynamic = schedule_message(
        replace(SCHEDULE, job_id=None, job_slug=None, dynamic_trigger_id=ID, dynamic_schedule_slug="users")
    )
    assert (of_dynamic.WhichOneof("owner"), of_dynamic.dynamic_schedule.slug) == ("dynamic_schedule", "users")


def test_a_source_and_a_dynamic_trigger() -> None:
    source = Source(ID, "k", "2", "SMTP", None, True, False, (("event", "a"),), "github", None, ID, OTHER, NOW, NOW)
    message = source_message(source)
    assert (message.channel, message.active, message.enabled) == (source_pb2.SOURCE_CHANNEL_SMTP, True, False)
    assert [(option.name, option.value) for option in message.options] == [("event", "a")]
    trigger = dynamic_trigger_message(
        DynamicTrigger(ID, "EVENT", "t", True, (("hello", "1.0.0"),), "{}", ID, OTHER, NOW, NOW)
    )
    assert [(job.slug, job.version) for job in trigger.jobs] == [("hello", "1.0.0")]
    assert trigger.register_source_job_json == "{}"


def test_an_index_tells_its_numbers_by_their_own_names() -> None:
    stats = {
        "jobs": 1,
        "sources": 2,
        "dynamicTriggers": 3,
        "dynamicSchedules": 4,
        "disabledJobs": 5,
        "failedItems": 6,
        "unchangedItems": 7,
    }
    index = EndpointIndex(
        id=ID,
        endpoint_id=OTHER,
        state=IndexState.REGISTERING,
        stats=stats,
        data_json=None,
        source=IndexSource.HOOK,
        source_data_json="null",
        reason=None,
        error=None,
        sequence=None,
        revision=3,
        queue_job_id=ID,
        created_at=NOW,
        updated_at=NOW,
        items=9,
        pending_items=2,
    )
    message = index_message(index)
    assert [number for _, number in message.stats.ListFields()] == [1, 2, 3, 4, 5, 6, 7]
    assert (message.sequence, message.revision, message.source_data_json) == (0, 3, "null")
    assert (message.items, message.pending_items) == (9, 2)


def test_upkeep_belongs_to_no_environment_and_args_are_shown_when_read() -> None:
    record = QueueJobRecord(
        id=ID,
        environment_id=NIL_UUID,
        kind="prune",
        args_json='{"a":1}',
        queue=Queue.MAINTENANCE,
        lane="maintenance",
        priority=Priority.VERY_LOW,
        state=QueueJobState.DISCARDED,
        run_at=NOW,
        attempt=3,
        max_attempts=3,
        rescues=1,
        errors=(QueueJobError(NOW, 3, "INTERNAL", "It failed."),),
        cancel_requested_at=None,
        created_at=NOW,
        started_at=NOW,
        finalized_at=NOW,
    )
    message = queue_job_message(record)
    assert (message.environment_id, message.args_json) == ("", '{"a":1}')
    assert message.state == queue_job_pb2.QUEUE_JOB_STATE_DISCARDED
    assert (message.errors[0].attempt, message.errors[0].reason) == (3, "INTERNAL")
    assert not message.HasField("cancel_request_time")
    assert message.HasField("finalize_time")
    assert queue_job_message(replace(record, args_json=None)).args_json == ""


def test_queue_stats_leave_out_what_is_zero() -> None:
    counts = {QueueJobState.COMPLETED: 0, QueueJobState.AVAILABLE: 2, QueueJobState.SCHEDULED: 1}
    message = queue_stats_message(QueueStats(Queue.EVENTS, counts, 1.5, 3, 4))
    assert message.queue == queue_pb2.QUEUE_EVENTS
    assert [(count.state, count.count) for count in message.counts] == [
        (queue_job_pb2.QUEUE_JOB_STATE_SCHEDULED, 1),
        (queue_job_pb2.QUEUE_JOB_STATE_AVAILABLE, 2),
    ]
    assert message.oldest_available_age.ToTimedelta() == timedelta(seconds=1.5)
    assert (message.open_lanes, message.unknown_kinds) == (3, 4)
    idle = queue_stats_message(QueueStats(Queue.EVENTS, {}, 0, 0, 0))
    assert not idle.HasField("oldest_available_age")
