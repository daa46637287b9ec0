"""`kongflow queue`: look at the ledger of queue jobs and act on it."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.connection import connected, resolve_target
from cli.failures import USAGE, CommandError
from cli.options import EnvironmentOption, JsonOption, ServerOption, TokenOption
from cli.output import console, enum_name, print_json, printable, table
from cli.queue_tables import error_table, fact_table, pause_table, queue_job_table, stats_table
from cli.times import read_time
from cli.watching import follow_stats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cli.connection import Connection, Target

commands = typer.Typer(help="Look at the ledger of queue jobs and act on it.", no_args_is_help=True)

RETRY_SECONDS = 120.0


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


def _given(context: typer.Context, parameter: typer.CallbackParam, value: str) -> str:
    """Return the value of an option; an empty one, as of a shell's variable that is not set, is not taken for all."""
    source = context.get_parameter_source(parameter.name or "")
    if not value and source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter("It is empty: leave the option out when no lane is meant.")
    return value


QueueJobArgument = Annotated[str, typer.Argument(metavar="ID", help="The queue job's id.")]
QueueArgument = Annotated[QueueName, typer.Argument(help="The queue.")]
LaneOption = Annotated[
    str, typer.Option("--lane", callback=_given, help="Only this lane of the queue; else the whole, as an admin.")
]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why, for those who wonder; every tenant reads that of a whole queue.")
]
StateFilter = Annotated[StateName | None, typer.Option("--state", help="Only queue jobs in this state.")]
QueueFilter = Annotated[QueueName | None, typer.Option("--queue", help="Only queue jobs of this queue.")]
KindFilter = Annotated[str, typer.Option("--kind", help="Only queue jobs of this kind, such as registerJob.")]
LaneFilter = Annotated[str, typer.Option("--lane", callback=_given, help="Only queue jobs of this lane.")]
SinceFilter = Annotated[str, typer.Option("--since", help="Only those written then or later: 2h, 7d, or ISO 8601.")]
UntilFilter = Annotated[str, typer.Option("--until", help="Only those written before: 2h, 7d, or ISO 8601.")]


@commands.command()
def stats(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Show them anew as they change, until Ctrl-C.")] = False,
    count: Annotated[int, typer.Option(min=0, help="With --watch: end after so many; 0: never.")] = 0,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show every queue in numbers."""
    from kongflow.v1 import queue_service_pb2  # noqa: PLC0415 - `kongflow --help` starts without it

    target = resolve_target(server=server, token=token, environment=environment)
    with connected(target) as connection:
        if watch:
            with _shown(as_json=as_json) as show:
                follow_stats(connection, target.environment_id, show=show, count=count)
            return
        request = queue_service_pb2.GetQueueStatsRequest(environment_id=target.environment_id)
        response = connection.call("QueueService.GetQueueStats", request)
    if as_json:
        print_json(response)
        return
    console().print(stats_table("Queues", response))
    if any(queue.pauses for queue in response.queues):
        console().print(pause_table(response))


@commands.command()
def jobs(
    *,
    state: StateFilter = None,
    queue: QueueFilter = None,
    kind: KindFilter = "",
    lane: LaneFilter = "",
    since: SinceFilter = "",
    until: UntilFilter = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most, newest first.")] = 50,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """List queue jobs, newest first."""
    from kongflow.v1 import queue_service_pb2  # noqa: PLC0415 - see above

    target = resolve_target(server=server, token=token, environment=environment)
    wanted = _filter(target, state=state, queue=queue, kind=kind, lane=lane, since=since, until=until)
    with connected(target) as connection:
        request = queue_service_pb2.ListQueueJobsRequest(**wanted)
        response = connection.list_all("QueueService.ListQueueJobs", request, field="queue_jobs", limit=limit)
    if as_json:
        print_json(response)
        return
    console().print(queue_job_table("Queue jobs, newest first", response.queue_jobs))


@commands.command()
def show(
    *,
    queue_job: QueueJobArgument,
    server: ServerOption = "",
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show a queue job and why its attempts failed."""
    from kongflow.v1 import queue_service_pb2  # noqa: PLC0415 - see above

    with connected(resolve_target(server=server, token=token)) as connection:
        request = queue_service_pb2.GetQueueJobRequest(queue_job_id=queue_job)
        response = connection.call("QueueService.GetQueueJob", request)
    if as_json:
        print_json(response)
        return
    out = console()
    out.print(fact_table(response.queue_job))
    if response.queue_job.errors:
        out.print(error_table(response.queue_job))


@commands.command()
def retry(
    *,
    queue_job: Annotated[str, typer.Argument(metavar="[ID]", help="One queue job; else all that --state names.")] = "",
    state: StateFilter = None,
    queue: QueueFilter = None,
    kind: KindFilter = "",
    lane: LaneFilter = "",
    since: SinceFilter = "",
    until: UntilFilter = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many at most, oldest first.")] = 1_000,
    repeat: Annotated[bool, typer.Option("--repeat", help="Also what is completed: its effect happens again.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> int:
    """Let a queue job run again now, or all of a filter; exit code 1 when one of them is refused."""
    from kongflow.v1 import queue_service_pb2  # noqa: PLC0415 - see above

    has_filter = bool(state or queue or kind or lane or since or until)
    if bool(queue_job) is has_filter or (has_filter and state is None):
        raise CommandError("Name one queue job by its id, or several by --state and other filters.", exit_code=USAGE)
    target = resolve_target(server=server, token=token, environment=environment)
    if queue_job:
        with connected(target) as connection:
            one = queue_service_pb2.RetryQueueJobRequest(queue_job_id=queue_job, allow_repeat=repeat)
            _show_retried(connection.call("QueueService.RetryQueueJob", one), as_json=as_json)
        return 0
    wanted = _filter(target, state=state, queue=queue, kind=kind, lane=lane, since=since, until=until)
    request = queue_service_pb2.RetryQueueJobsRequest(**wanted, max_count=limit, allow_repeat=repeat)
    with connected(target) as connection:
        if not yes and not _is_confirmed(connection, request, as_json=as_json):
            return 0
        response = connection.call("QueueService.RetryQueueJobs", request, timeout=RETRY_SECONDS)
    if as_json:
        print_json(response)
    else:
        _show_retried_many(response)
    return 1 if response.refused_count else 0


@commands.command()
def cancel(
    *,
    queue_job: QueueJobArgument,
    server: ServerOption = "",
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Cancel a queue job; one that is running ends without effect."""
    from kongflow.v1 import queue_service_pb2  # noqa: PLC0415 - see above

    with connected(resolve_target(server=server, token=token)) as connection:
        request = queue_service_pb2.CancelQueueJobRequest(queue_job_id=queue_job)
        response = connection.call("QueueService.CancelQueueJob", request)
    if as_json:
        print_json(response)
    elif response.is_pending:
        console().print("It is running: it ends without effect when its call does.", markup=False)
    else:
        console().print(f"Cancelled {printable(response.queue_job.kind)} {response.queue_job.id}.", markup=False)


@commands.command()
def pause(
    *,
    queue: QueueArgument,
    lane: LaneOption = "",
    reason: ReasonOption = "",
    server: ServerOption = "",
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Take nothing more from a queue, or from one lane of it; what runs ends as it would."""
    from kongflow.v1 import queue_service_pb2  # noqa: PLC0415 - see above

    with connected(resolve_target(server=server, token=token, as_admin=not lane)) as connection:
        request = queue_service_pb2.PauseQueueRequest(queue=_number_of(queue), lane=lane, reason=reason)
        response = connection.call("QueueService.PauseQueue", request)
    if as_json:
        print_json(response)
    else:
        console().print(f"Paused {_what(queue, lane)}.", markup=False)


@commands.command()
def resume(
    *,
    queue: QueueArgument,
    lane: LaneOption = "",
    server: ServerOption = "",
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """End a pause; the pauses of a queue and of its lanes are apart."""
    from kongflow.v1 import queue_service_pb2  # noqa: PLC0415 - see above

    with connected(resolve_target(server=server, token=token, as_admin=not lane)) as connection:
        request = queue_service_pb2.ResumeQueueRequest(queue=_number_of(queue), lane=lane)
        response = connection.call("QueueService.ResumeQueue", request)
    if as_json:
        print_json(response)
    elif response.was_paused:
        console().print(f"Resumed {_what(queue, lane)}.", markup=False)
    else:
        console().print(f"Nothing has changed: {_what(queue, lane)} was not paused.", markup=False)


def _filter(
    target: Target,
    *,
    state: StateName | None,
    queue: QueueName | None,
    kind: str,
    lane: str,
    since: str,
    until: str,
) -> dict[str, Any]:
    """Return the fields that ListQueueJobs and RetryQueueJobs have in common."""
    from kongflow.v1 import queue_job_pb2  # noqa: PLC0415 - see above

    now = datetime.now(UTC)
    fields = {
        "environment_id": target.environment_id,
        "state": queue_job_pb2.QueueJobState.Value(f"QUEUE_JOB_STATE_{state.name if state else 'UNSPECIFIED'}"),
        "queue": _number_of(queue),
        "kind": kind,
        "lane": lane,
        "created_from": read_time("--since", since, now=now),
        "created_before": read_time("--until", until, now=now),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _number_of(queue: QueueName | None) -> Any:  # noqa: ANN401 - the contract's number
    from kongflow.v1 import queue_pb2  # noqa: PLC0415 - see above

    return queue_pb2.Queue.Value(f"QUEUE_{queue.name if queue else 'UNSPECIFIED'}")


def _what(queue: QueueName, lane: str) -> str:
    return f"the lane {printable(lane)} of the queue {queue.value}" if lane else f"the queue {queue.value}"


def _is_confirmed(connection: Connection, request: Any, *, as_json: bool) -> bool:  # noqa: ANN401 - RetryQueueJobsRequest
    """Ask whether to retry as many as there are; False when there are none.

    Raises:
        CommandError: nobody can be asked.
    """
    if as_json:
        raise CommandError("Nobody can be asked with --json: add --yes.", exit_code=USAGE)
    looked = type(request)()
    looked.CopyFrom(request)
    looked.validate_only = True
    found = connection.call("QueueService.RetryQueueJobs", looked)
    if not found.matched_count:
        console().print("Nothing matches.", markup=False)
        return False
    more = ", the oldest of more" if found.has_more else ""
    typer.confirm(f"Retry {_so_many(found.matched_count)}{more}?", abort=True)
    return True


def _show_retried(response: Any, *, as_json: bool) -> None:  # noqa: ANN401 - RetryQueueJobResponse
    if as_json:
        print_json(response)
        return
    repeated = " It had been completed: its effect happens again." if response.repeats_effect else ""
    job = response.queue_job
    console().print(f"{printable(job.kind)} {job.id} is {enum_name(job, 'state')}.{repeated}", markup=False)


def _show_retried_many(response: Any) -> None:  # noqa: ANN401 - RetryQueueJobsResponse
    out = console()
    more = " More match: repeat the command." if response.has_more else ""
    out.print(f"Retried {_so_many(response.retried_count)}.{more}", markup=False)
    if response.refused_count:
        rows = [(refusal.queue_job_id, refusal.reason, refusal.message) for refusal in response.refusals]
        out.print(table(f"{response.refused_count} refused", ("id", "reason", "message"), rows))


def _so_many(count: int) -> str:
    return f"{count} queue job{'s' * (count != 1)}"


@contextmanager
def _shown(*, as_json: bool) -> Iterator[Callable[[Any], None]]:
    """Yield what shows one state of the queues after the other: a live table, or a line of JSON for each."""
    if as_json:
        yield lambda response: print_json(response, in_one_line=True)
        return
    from rich.live import Live  # noqa: PLC0415 - see above

    with Live(console=console(), auto_refresh=False) as live:
        yield lambda response: live.update(stats_table("Queues, until Ctrl-C", response), refresh=True)
