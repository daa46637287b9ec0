"""Tables of the ledger: the queues in numbers, and queue jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cli.output import NOTHING, duration_text, enum_name, table, time_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.protobuf.duration_pb2 import Duration

STATES: Final = ("SCHEDULED", "AVAILABLE", "RUNNING", "COMPLETED", "DISCARDED", "CANCELLED")

_NANOSECONDS: Final = 1_000_000


def stats_table(title: str, response: Any) -> Any:  # noqa: ANN401 - an answer with queues; what Rich can print
    """Return the table of queues; a `+` behind a count says that there are more."""
    rows = []
    for queue in response.queues:
        counts = {enum_name(count, "state"): f"{count.count}{'+' * count.is_capped}" for count in queue.counts}
        rows.append(
            (
                enum_name(queue, "queue").lower(),
                *(counts.get(state, "0") for state in STATES),
                str(queue.open_lanes),
                duration_text(queue, "oldest_available_age"),
                f"{queue.completed_per_second:.1f}",
                f"{queue.discarded_per_second:.1f}",
                _latency_text(queue),
                _pauses_text(queue.pauses),
            )
        )
    columns = (
        *("queue", *(state.lower() for state in STATES), "lanes", "oldest due"),
        *("done/s", "dead/s", "pickup p50/95/99", "paused"),
    )
    return table(title, columns, rows)


def pause_table(response: Any) -> Any:  # noqa: ANN401 - an answer with queues; what Rich can print
    """Return the table of what is paused, by whom and why."""
    rows = [
        (
            enum_name(pause, "queue").lower(),
            pause.lane or "the whole queue",
            time_text(pause, "create_time"),
            pause.paused_by or NOTHING,
            pause.reason or NOTHING,
        )
        for queue in response.queues
        for pause in queue.pauses
    ]
    return table("Pauses", ("queue", "lane", "since (UTC)", "by", "reason"), rows)


def queue_job_table(title: str, queue_jobs: Iterable[Any]) -> Any:  # noqa: ANN401 - what Rich can print
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


def fact_table(job: Any) -> Any:  # noqa: ANN401 - QueueJob; what Rich can print
    """Return the table of everything about one queue job but its errors."""
    facts = [
        ("id", job.id),
        ("kind", job.kind),
        ("state", enum_name(job, "state")),
        ("environment", job.environment_id or NOTHING),
        ("queue", enum_name(job, "queue").lower()),
        ("lane", job.lane),
        ("priority", enum_name(job, "priority").lower().replace("_", " ")),
        ("attempt", f"{job.attempt}/{job.max_attempts}"),
        ("taken back", str(job.rescues)),
        ("created (UTC)", time_text(job, "create_time")),
        ("runs at (UTC)", time_text(job, "run_time")),
        ("began (UTC)", time_text(job, "start_time")),
        ("ended (UTC)", time_text(job, "finalize_time")),
        ("asked to cancel (UTC)", time_text(job, "cancel_request_time")),
        ("args", job.args_json),
    ]
    return table("Queue job", ("field", "value"), facts)


def error_table(job: Any) -> Any:  # noqa: ANN401 - QueueJob; what Rich can print
    """Return the table of why a queue job's attempts failed."""
    rows = [(time_text(error, "time"), str(error.attempt), error.reason, error.message) for error in job.errors]
    return table("Errors, oldest first", ("when (UTC)", "attempt", "reason", "message"), rows)


def _latency_text(queue: Any) -> str:  # noqa: ANN401 - QueueStats
    if not queue.HasField("pickup"):
        return NOTHING
    percentiles = (queue.pickup.p50, queue.pickup.p95, queue.pickup.p99)
    return "/".join(_milliseconds(duration) for duration in percentiles) + " ms"


def _milliseconds(duration: Duration) -> str:
    milliseconds = duration.ToNanoseconds() / _NANOSECONDS
    return f"{milliseconds:.0f}" if milliseconds >= 1 else f"{milliseconds:.1f}"


def _pauses_text(pauses: Iterable[Any]) -> str:
    lanes = [pause.lane for pause in pauses]
    words = ["all"] if "" in lanes else []
    paused_lanes = sum(bool(lane) for lane in lanes)
    if paused_lanes:
        words.append(f"{paused_lanes} lane{'s' * (paused_lanes > 1)}")
    return ", ".join(words) or NOTHING
