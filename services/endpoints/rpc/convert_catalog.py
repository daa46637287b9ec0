"""From the domain to messages: what indexes found. Empty means none; customer JSON stays text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kongflow.v1 import dynamic_trigger_pb2, job_pb2, job_version_pb2, schedule_pb2, source_pb2

from services.endpoints.rpc import enums
from services.endpoints.rpc.convert import dated, optional_id

if TYPE_CHECKING:
    from services.endpoints.domain.catalog_entries import DynamicTrigger, Job, JobVersion, Schedule, Source


def job_message(job: Job) -> job_pb2.Job:
    """Return a job with its latest version."""
    return dated(
        job_pb2.Job(
            id=str(job.id),
            slug=job.slug,
            title=job.title,
            internal=job.internal,
            environment_id=str(job.environment_id),
            latest_version=job_version_message(job.latest),
        ),
        create_time=job.created_at,
        update_time=job.updated_at,
    )


def job_version_message(version: JobVersion) -> job_version_pb2.JobVersion:
    """Return a version of a job."""
    is_active = version.is_active
    message = dated(
        job_version_pb2.JobVersion(
            id=str(version.id),
            version=version.version,
            state=job_version_pb2.JOB_VERSION_STATE_ACTIVE if is_active else job_version_pb2.JOB_VERSION_STATE_DISABLED,
            endpoint_id=str(version.endpoint_id),
            endpoint_slug=version.endpoint_slug,
            trigger_type=version.trigger_type,
            trigger_json=version.trigger_json,
            event_names=version.event_names,
            event_specification_json=version.event_specification_json,
            properties_json=version.properties_json or "",
            start_position=enums.START_POSITION[version.start_position],
            preprocess_runs=version.preprocess_runs,
            concurrency_limit_json=version.concurrency_limit_json or "",
        ),
        create_time=version.created_at,
        update_time=version.updated_at,
    )
    if version.queue is not None:
        message.queue.name = version.queue.name
        message.queue.max_jobs = version.queue.max_jobs
    for integration in version.integrations:
        message.integrations.add(
            key=integration.key,
            slug=integration.slug,
            title=integration.title,
            definition_id=integration.definition_id,
            definition_name=integration.definition_name,
            auth_source=integration.auth_source,
            setup_status=integration.setup_status,
        )
    for example in version.examples:
        message.examples.add(
            slug=example.slug,
            name=example.name,
            icon=example.icon or "",
            payload_json=example.payload_json or "",
        )
    return message


def source_message(source: Source) -> source_pb2.Source:
    """Return a source."""
    return dated(
        source_pb2.Source(
            id=str(source.id),
            key=source.key,
            version=source.version,
            channel=enums.SOURCE_CHANNEL[source.channel],
            params_json=source.params_json or "",
            enabled=source.enabled,
            active=source.active,
            options=[source_pb2.SourceOption(name=name, value=value) for name, value in source.options],
            integration=source.integration_slug,
            register_source_job_json=source.register_source_job_json or "",
            endpoint_id=str(source.endpoint_id),
            environment_id=str(source.environment_id),
        ),
        create_time=source.created_at,
        update_time=source.updated_at,
    )


def dynamic_trigger_message(trigger: DynamicTrigger) -> dynamic_trigger_pb2.DynamicTrigger:
    """Return a dynamic trigger or a dynamic schedule."""
    return dated(
        dynamic_trigger_pb2.DynamicTrigger(
            id=str(trigger.id),
            slug=trigger.slug,
            type=enums.DYNAMIC_TRIGGER_TYPE[trigger.type],
            endpoint_id=str(trigger.endpoint_id),
            environment_id=str(trigger.environment_id),
            enabled=trigger.enabled,
            jobs=[dynamic_trigger_pb2.DynamicTriggerJob(slug=slug, version=version) for slug, version in trigger.jobs],
            register_source_job_json=trigger.register_source_job_json or "",
        ),
        create_time=trigger.created_at,
        update_time=trigger.updated_at,
    )


def schedule_message(schedule: Schedule) -> schedule_pb2.Schedule:
    """Return a schedule with its owner."""
    message = dated(
        schedule_pb2.Schedule(
            id=str(schedule.id),
            key=schedule.key,
            schedule_json=schedule.schedule_json,
            active=schedule.active,
            environment_id=str(schedule.environment_id),
        ),
        last_event_time=schedule.last_event_at,
        next_event_time=schedule.next_event_at,
        create_time=schedule.created_at,
        update_time=schedule.updated_at,
    )
    if schedule.job_id is not None:
        owner = schedule_pb2.ScheduleOwner(id=str(schedule.job_id), slug=schedule.job_slug or "")
        message.job.CopyFrom(owner)
    else:
        owner = schedule_pb2.ScheduleOwner(
            id=optional_id(schedule.dynamic_trigger_id), slug=schedule.dynamic_schedule_slug or ""
        )
        message.dynamic_schedule.CopyFrom(owner)
    return message
