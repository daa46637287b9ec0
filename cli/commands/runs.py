"""`kongflow runs`: what events made run."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

import typer

from cli.connection import connected, resolve_target
from cli.dispatch_tables import run_fact_table, run_table
from cli.event_lookup import call_for_event
from cli.options import EnvironmentOption, JsonOption, ServerOption, SinceOption, TokenOption, UntilOption
from cli.output import console, print_json
from cli.times import read_range

commands = typer.Typer(help="Look at what events made run.", no_args_is_help=True)


class StateName(StrEnum):
    """The states of a run, as they are typed."""

    PENDING = "pending"


@commands.callback()
def group() -> None:
    """Look at what events made run."""


@commands.command(name="list")
def list_(
    *,
    job: Annotated[str, typer.Option("--job", help="Only runs of this job.")] = "",
    event: Annotated[str, typer.Option("--event", help="Only runs of this event: its id or event id.")] = "",
    state: Annotated[StateName | None, typer.Option("--state", help="Only runs in this state.")] = None,
    since: SinceOption = "",
    until: UntilOption = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most, newest first.")] = 50,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    from kongflow.v1 import event_service_pb2, run_pb2, run_service_pb2  # noqa: PLC0415 - `--help` starts without it

    target = resolve_target(server=server, token=token, environment=environment)
    request = run_service_pb2.ListRunsRequest(
        environment_id=target.environment_id,
        job_slug=job,
        state=run_pb2.RunState.Value(f"RUN_STATE_{state.name if state else 'UNSPECIFIED'}"),
        **read_range(since, until, now=datetime.now(UTC)),
    )
    with connected(target) as connection:
        if event:
            get = event_service_pb2.GetEventRequest()
            request.event_record_id = call_for_event(connection, "EventService.GetEvent", get, event).event.id
        response = connection.list_all("RunService.ListRuns", request, field="runs", limit=limit)
    if as_json:
        print_json(response)
        return
    console().print(run_table("Runs, newest first", response.runs))


@commands.command()
def show(
    *,
    run: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
    server: ServerOption = "",
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show a run."""
    from kongflow.v1 import run_service_pb2  # noqa: PLC0415 - see above

    with connected(resolve_target(server=server, token=token)) as connection:
        request = run_service_pb2.GetRunRequest(run_id=run)
        response = connection.call("RunService.GetRun", request)
    if as_json:
        print_json(response)
        return
    console().print(run_fact_table(response.run))
