"""`kongflow events`: send events, look at them, cancel and replay them, and ask why nothing ran."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.connection import connected, resolve_target
from cli.dispatch_tables import (
    dispatchable_names,
    event_fact_table,
    event_table,
    explanation_table,
    run_table,
)
from cli.event_lookup import call_for_event
from cli.failures import USAGE, CommandError
from cli.options import (
    EnvironmentOption,
    EventArgument,
    JsonOption,
    ServerOption,
    SinceOption,
    TokenOption,
    UntilOption,
)
from cli.output import as_dict, console, enum_name, print_json, printable, time_text
from cli.times import read_duration, read_moment, read_range, read_time

if TYPE_CHECKING:
    from cli.connection import Connection

commands = typer.Typer(
    help="Send events, look at them, cancel and replay them, and ask why nothing ran.", no_args_is_help=True
)

REPLAY_SECONDS = 60.0
_RUNS_SHOWN = 100
_STANDARD_INPUT = "-"
_FILE_MARK = "@"


class StateName(StrEnum):
    """The states of an event, as they are typed."""

    PENDING = "pending"
    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    FAILED = "failed"


class PriorityName(StrEnum):
    """The priorities, as they are typed."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"
    VERY_LOW = "very-low"


PayloadOption = Annotated[
    str | None, typer.Option("--payload", help="JSON, @FILE that holds it, or - for standard input; else {}.")
]
ContextOption = Annotated[
    str | None, typer.Option("--context", help="A JSON object, @FILE that holds it, or -; else {}.")
]
EventIdOption = Annotated[str, typer.Option("--id", help="The sender's own id, once in an environment; else made.")]
SourceOption = Annotated[str, typer.Option("--source", help="Where it happened; else trigger.dev.")]
AccountOption = Annotated[str, typer.Option("--account", help="The account that it belongs to.")]
RequestOption = Annotated[
    bool, typer.Option("--request", help="The payload is an HTTP request: url, method, headers and rawBody.")
]
NameFilter = Annotated[str, typer.Option("--name", help="Only events of this name.")]
SourceFilter = Annotated[str, typer.Option("--source", help="Only events of this source.")]


@commands.command()
def send(
    *,
    name: Annotated[str, typer.Argument(help="What happened, such as user.created.")],
    payload: PayloadOption = None,
    context: ContextOption = None,
    event_id: EventIdOption = "",
    source: SourceOption = "",
    timestamp: Annotated[str, typer.Option(help="When it happened, ISO 8601 or 2h ago; else now.")] = "",
    deliver_after: Annotated[str, typer.Option(help="Deliver it so long from now: 60s, 5m, 2h, 7d.")] = "",
    deliver_at: Annotated[str, typer.Option(help="Deliver it then, ISO 8601; else now.")] = "",
    priority: Annotated[PriorityName | None, typer.Option(help="Which go first of those that are due.")] = None,
    account: AccountOption = "",
    request: RequestOption = False,
    test: Annotated[bool, typer.Option("--test", help="It tries something out, and so do its runs.")] = False,
    update_if_pending: Annotated[
        bool, typer.Option("--update-if-pending", help="Replace the event of this id when it is not yet due.")
    ] = False,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Send an event; the same content under the same id again changes nothing."""
    from kongflow.v1 import event_service_pb2, priority_pb2  # noqa: PLC0415 - `kongflow --help` starts without it

    if deliver_after and deliver_at:
        raise CommandError("Give --deliver-after or --deliver-at, not both.", exit_code=USAGE)
    event = _new_event(
        name, payload=payload, context=context, event_id=event_id, source=source, account=account, request=request
    )
    event.is_test = test
    event.priority = priority_pb2.Priority.Value(f"PRIORITY_{priority.name if priority else 'UNSPECIFIED'}")
    if moment := read_time("--timestamp", timestamp, now=datetime.now(UTC)):
        event.timestamp.FromDatetime(moment)
    if (delay := read_duration("--deliver-after", deliver_after)) is not None:
        event.deliver_delay.FromTimedelta(delay)
    if moment := read_moment("--deliver-at", deliver_at):
        event.deliver_time.FromDatetime(moment)
    target = resolve_target(server=server, token=token, environment=environment)
    wanted = event_service_pb2.SendEventRequest(
        environment_id=target.environment_id, event=event, update_if_pending=update_if_pending
    )
    with connected(target) as connection:
        response = connection.call("EventService.SendEvent", wanted)
    if as_json:
        print_json(response)
    else:
        console().print(_sent(response), markup=False)


@commands.command(name="list")
def list_(
    *,
    name: NameFilter = "",
    source: SourceFilter = "",
    state: Annotated[StateName | None, typer.Option("--state", help="Only events in this state.")] = None,
    account: Annotated[str, typer.Option("--account", help="Only events of this account.")] = "",
    since: SinceOption = "",
    until: UntilOption = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most, newest first.")] = 50,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """List events, newest first."""
    from kongflow.v1 import event_pb2, event_service_pb2  # noqa: PLC0415 - see above

    target = resolve_target(server=server, token=token, environment=environment)
    request = event_service_pb2.ListEventsRequest(
        environment_id=target.environment_id,
        name=name,
        source=source,
        state=event_pb2.EventState.Value(f"EVENT_STATE_{state.name if state else 'UNSPECIFIED'}"),
        account_id=account,
        **read_range(since, until, now=datetime.now(UTC)),
    )
    with connected(target) as connection:
        response = connection.list_all("EventService.ListEvents", request, field="events", limit=limit)
    if as_json:
        print_json(response)
        return
    console().print(event_table("Events, newest first", response.events))


@commands.command()
def show(
    *,
    event: EventArgument,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show an event and its runs."""
    from kongflow.v1 import event_service_pb2, run_service_pb2  # noqa: PLC0415 - see above

    with connected(resolve_target(server=server, token=token, environment=environment)) as connection:
        found = call_for_event(connection, "EventService.GetEvent", event_service_pb2.GetEventRequest(), event).event
        request = run_service_pb2.ListRunsRequest(environment_id=found.environment_id, event_record_id=found.id)
        runs = connection.list_all("RunService.ListRuns", request, field="runs", limit=_RUNS_SHOWN).runs
    if as_json:
        print_json({"event": as_dict(found), "runs": [as_dict(run) for run in runs]})
        return
    out = console()
    out.print(event_fact_table(found))
    if runs:
        out.print(run_table("Runs, newest first", runs))


@commands.command()
def cancel(
    *,
    event: EventArgument,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Cancel an event that was not delivered."""
    from kongflow.v1 import event_service_pb2  # noqa: PLC0415 - see above

    with connected(resolve_target(server=server, token=token, environment=environment)) as connection:
        response = call_for_event(connection, "EventService.CancelEvent", event_service_pb2.CancelEventRequest(), event)
    if as_json:
        print_json(response)
    else:
        console().print(f"Cancelled {printable(response.event.name)} {response.event.id}.", markup=False)


@commands.command()
def replay(
    *,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Events; else all since --from.")] = None,
    since: Annotated[
        str, typer.Option("--from", "--since", help="Those sent then or later: 2h, 7d, or ISO 8601.")
    ] = "",
    until: Annotated[
        str, typer.Option("--before", "--until", help="Those sent before: 2h, or ISO 8601; else now.")
    ] = "",
    name: NameFilter = "",
    source: SourceFilter = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="How many at most, oldest first.")] = 1_000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them and send nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Send events once more, through the dispatchers of today."""
    from kongflow.v1 import event_service_pb2  # noqa: PLC0415 - see above

    if bool(ids) is bool(since) or (ids and (until or name or source)):
        raise CommandError("Name events by their ids, or those of a time by --from and other filters.", exit_code=USAGE)
    target = resolve_target(server=server, token=token, environment=environment)
    now = datetime.now(UTC)
    request = event_service_pb2.ReplayEventsRequest(
        environment_id=target.environment_id, ids=ids or [], name=name, source=source, validate_only=dry_run
    )
    if not ids:
        request.max_count = limit
        request.created_from.FromDatetime(read_time("--from", since, now=now) or now)
        request.created_before.FromDatetime(read_time("--before", until, now=now) or now)
    with connected(target) as connection:
        if not (ids or dry_run or yes) and not _is_confirmed(connection, request, as_json=as_json):
            return
        response = connection.call("EventService.ReplayEvents", request, timeout=REPLAY_SECONDS)
        more = "" if as_json else _more(connection, response)
    if as_json:
        print_json(response)
        return
    out = console()
    if dry_run:
        out.print(f"{_so_many(response.matched_count)} would be sent once more.{more}", markup=False)
        return
    out.print(f"Sent {_so_many(len(response.events))} once more.{more}", markup=False)
    if response.events:
        out.print(event_table("", response.events))


@commands.command()
def explain(
    *,
    event: Annotated[str, typer.Argument(metavar="[ID]", help="A stored event; else one that --name describes.")] = "",
    name: Annotated[str, typer.Option("--name", help="An event that is not stored: its name.")] = "",
    payload: PayloadOption = None,
    context: ContextOption = None,
    event_id: EventIdOption = "",
    source: SourceOption = "",
    account: AccountOption = "",
    request: RequestOption = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many dispatchers at most.")] = 1_000,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Say which dispatchers want an event, which do not and why, and what came of it."""
    from kongflow.v1 import event_service_pb2  # noqa: PLC0415 - see above

    describes = payload is not None or context is not None or bool(event_id or source or account or request)
    if bool(event) is bool(name) or (event and describes):
        raise CommandError("Name a stored event by its id, or describe one by --name and more.", exit_code=USAGE)
    target = resolve_target(server=server, token=token, environment=environment)
    wanted = event_service_pb2.ExplainEventRequest(environment_id=target.environment_id)
    if name:
        wanted.draft.CopyFrom(
            _new_event(
                name,
                payload=payload,
                context=context,
                event_id=event_id,
                source=source,
                account=account,
                request=request,
            )
        )
    with connected(target) as connection:
        if event:
            get = event_service_pb2.GetEventRequest()
            wanted.id = call_for_event(connection, "EventService.GetEvent", get, event).event.id
        response = connection.list_all("EventService.ExplainEvent", wanted, field="dispatchers", limit=limit)
        names = {} if as_json or not response.dispatchers else dispatchable_names(connection)
    if as_json:
        print_json(response)
        return
    out = console()
    out.print(printable(response.summary), markup=False)
    if response.dispatchers:
        out.print(explanation_table("Who listens to it", response.dispatchers, names))


def read_json(option: str, given: str) -> str:
    """Return the text that an option stands for: itself, a file's after `@`, or standard input's for `-`.

    Raises:
        CommandError: the file cannot be read as text; the sentence names the option.
    """
    try:
        if given == _STANDARD_INPUT:
            return sys.stdin.read()
        if given.startswith(_FILE_MARK):
            return Path(given.removeprefix(_FILE_MARK)).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise CommandError(f"{option} {given!r:.200} cannot be read: {why}.", exit_code=USAGE) from error
    return given


def _new_event(
    name: str, *, payload: str | None, context: str | None, event_id: str, source: str, account: str, request: bool
) -> Any:  # noqa: ANN401 - NewEvent
    from kongflow.v1 import event_pb2, event_service_pb2  # noqa: PLC0415 - see above

    if payload == context == _STANDARD_INPUT:
        raise CommandError("Only one of --payload and --context can come from standard input.", exit_code=USAGE)
    return event_service_pb2.NewEvent(
        name=name,
        payload_json=None if payload is None else read_json("--payload", payload),
        context_json=None if context is None else read_json("--context", context),
        event_id=event_id,
        source=source,
        account_id=account,
        payload_type=event_pb2.PAYLOAD_TYPE_REQUEST if request else event_pb2.PAYLOAD_TYPE_UNSPECIFIED,
    )


def _sent(response: Any) -> str:  # noqa: ANN401 - SendEventResponse
    event = response.event
    name = f"{printable(event.name)} {event.id}"
    if response.updated:
        return f"Replaced {name}; it is delivered at {time_text(event, 'deliver_time')} UTC."
    if not response.created:
        return f"It was there already: {name} is {enum_name(event, 'state')}."
    if event.deliver_time.ToNanoseconds() > event.create_time.ToNanoseconds():
        return f"Sent {name}; it is delivered at {time_text(event, 'deliver_time')} UTC."
    return f"Sent {name}."


def _is_confirmed(connection: Connection, request: Any, *, as_json: bool) -> bool:  # noqa: ANN401 - ReplayEventsRequest
    """Ask whether to send as many as there are; False when there are none.

    Raises:
        CommandError: nobody can be asked.
    """
    if as_json:
        raise CommandError("Nobody can be asked with --json: add --yes.", exit_code=USAGE)
    looked = type(request)()
    looked.CopyFrom(request)
    looked.validate_only = True
    found = connection.call("EventService.ReplayEvents", looked, timeout=REPLAY_SECONDS)
    if not found.matched_count:
        console().print("Nothing matches.", markup=False)
        return False
    more = ", the oldest of more" if found.has_more else ""
    typer.confirm(f"Send {_so_many(found.matched_count)} once more{more}?", abort=True)
    return True


def _more(connection: Connection, response: Any) -> str:  # noqa: ANN401 - ReplayEventsResponse
    """Return how to go on when more events match."""
    from kongflow.v1 import event_service_pb2  # noqa: PLC0415 - see above

    if not response.has_more:
        return ""
    if not response.events:
        return " More match."
    request = event_service_pb2.GetEventRequest(id=response.events[-1].replay_of)
    last = connection.call("EventService.GetEvent", request).event.create_time.ToDatetime(tzinfo=UTC)
    return f" More match: go on with --from {(last + timedelta(microseconds=1)).isoformat()}"


def _so_many(count: int) -> str:
    return f"{count} event{'s' * (count != 1)}"
