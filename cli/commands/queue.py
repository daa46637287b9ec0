"""`kongflow queue`: the ledger of queue jobs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from cli.connection import connected, resolve_target
from cli.options import EnvironmentOption, JsonOption, ServerOption, TokenOption
from cli.output import console, duration_text, enum_name, print_json, table, time_text

commands = typer.Typer(help="Look at the ledger of queue jobs.", no_args_is_help=True)

STATES = ("SCHEDULED", "AVAILABLE", "RUNNING", "COMPLETED", "DISCARDED", "CANCELLED")


class QueueName(StrEnum):
    """The queues, as they are typed."""

    DEFAULT = "default"
    EXECUTION = "execution"
    EVENTS = "events"
    MAINTENANCE = "maintenance"


class StateName(StrEnum):
    """The states of a queue job, as they are typed."""

    SCHEDULED = "scheduled"
    AVAILABLE = "available"
    RUNNING = "running"
    COMPLETED = "completed"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"


@commands.command()
def stats(
    *,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show every queue in numbers."""
    from kongflow.v1 import queue_service_pb2  # noqa: PLC0415 - `kongflow --help` starts without it

    target = resolve_target(server=server, token=token, environment=environment)
    with connected(target) as connection:
        request = queue_service_pb2.GetQueueStatsRequest(environment_id=target.environment_id)
        response = connection.call("QueueService.GetQueueStats", request)
    if as_json:
        print_json(response)
        return
    console().print(stats_table("Queues", response))


@commands.command()
def jobs(
    *,
    state: Annotated[StateName | None, typer.Option(help="Only queue jobs in this state.")] = None,
    queue: Annotated[QueueName | None, typer.Option(help="Only queue jobs of this queue.")] = None,
    kind: Annotated[str, typer.Option(help="Only queue jobs of this kind, such as registerJob.")] = "",
    lane: Annotated[str, typer.Option(help="Only queue jobs of this lane.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most, newest first.")] = 50,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """List queue jobs, newest first."""
    from kongflow.v1 import queue_job_pb2, queue_pb2, queue_service_pb2  # noqa: PLC0415 - see above

    target = resolve_target(server=server, token=token, environment=environment)
    with connected(target) as connection:
        request = queue_service_pb2.ListQueueJobsRequest(
            environment_id=target.environment_id,
            state=queue_job_pb2.QueueJobState.Value(f"QUEUE_JOB_STATE_{state.name if state else 'UNSPECIFIED'}"),
            queue=queue_pb2.Queue.Value(f"QUEUE_{queue.name if queue else 'UNSPECIFIED'}"),
            kind=kind,
            lane=lane,
        )
        response = connection.list_all("QueueService.ListQueueJobs", request, field="queue_jobs", limit=limit)
    if as_json:
        print_json(response)
        return
    console().print(queue_job_table("Queue jobs, newest first", response.queue_jobs))


def stats_table(title: str, response: Any) -> Any:  # noqa: ANN401 - GetQueueStatsResponse; what Rich can print
    """Return the table of queues and states."""
    rows = []
    for queue in response.queues:
        counts = {enum_name(count, "state"): count.count for count in queue.counts}
        rows.append(
            (
                enum_name(queue, "queue").lower(),
                *(str(counts.get(state, 0)) for state in STATES),
                str(queue.open_lanes),
                duration_text(queue, "oldest_available_age"),
            )
        )
    columns = ("queue", *(state.lower() for state in STATES), "open lanes", "oldest available")
    return table(title, columns, rows)


def queue_job_table(title: str, queue_jobs: Any) -> Any:  # noqa: ANN401 - QueueJob messages; what Rich can print
    """Return the table of queue jobs."""
    rows = [
        (
            job.kind,
            enum_name(job, "queue").lower(),
            enum_name(job, "state"),
            f"{job.attempt}/{job.max_attempts}",
            time_text(job, "run_time"),
            job.errors[-1].message if job.errors else "",
            job.id,
        )
        for job in queue_jobs
    ]
    return table(title, ("kind", "queue", "state", "attempt", "runs at (UTC)", "last error", "id"), rows)
