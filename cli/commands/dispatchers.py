"""`kongflow dispatchers`: which events reach what."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from cli.connection import connected, resolve_target
from cli.dispatch_tables import dispatchable_names, dispatcher_fact_table, dispatcher_table
from cli.options import EnvironmentOption, JsonOption, ServerOption, TokenOption
from cli.output import console, print_json

commands = typer.Typer(help="Look at which events reach what.", no_args_is_help=True)


class OriginName(StrEnum):
    """Who wrote a dispatcher, as it is typed."""

    INDEX = "index"
    API = "api"


@commands.callback()
def group() -> None:
    """Look at which events reach what."""


@commands.command(name="list")
def list_(
    *,
    event: Annotated[str, typer.Option("--event", help="Only those that listen to events of this name.")] = "",
    source: Annotated[str, typer.Option("--source", help="Only those of this source.")] = "",
    origin: Annotated[OriginName | None, typer.Option("--origin", help="Only those that these wrote.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many at most, oldest first.")] = 1_000,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """List dispatchers, oldest first."""
    from kongflow.v1 import dispatcher_pb2, dispatcher_service_pb2  # noqa: PLC0415 - `--help` starts without it

    target = resolve_target(server=server, token=token, environment=environment)
    request = dispatcher_service_pb2.ListDispatchersRequest(
        environment_id=target.environment_id,
        event_name=event,
        source=source,
        origin=dispatcher_pb2.DispatcherOrigin.Value(f"DISPATCHER_ORIGIN_{origin.name if origin else 'UNSPECIFIED'}"),
    )
    with connected(target) as connection:
        response = connection.list_all("DispatcherService.ListDispatchers", request, field="dispatchers", limit=limit)
        names = {} if as_json else dispatchable_names(connection)
    if as_json:
        print_json(response)
        return
    console().print(dispatcher_table("Dispatchers, oldest first", response.dispatchers, names))


@commands.command()
def show(
    *,
    dispatcher: Annotated[str, typer.Argument(metavar="ID", help="The dispatcher's id.")],
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show a dispatcher with its filters."""
    from kongflow.v1 import dispatcher_service_pb2  # noqa: PLC0415 - see above

    with connected(resolve_target(server=server, token=token, environment=environment)) as connection:
        request = dispatcher_service_pb2.GetDispatcherRequest(dispatcher_id=dispatcher)
        response = connection.call("DispatcherService.GetDispatcher", request)
        names = {} if as_json else dispatchable_names(connection, environment_id=response.dispatcher.environment_id)
    if as_json:
        print_json(response)
        return
    console().print(dispatcher_fact_table(response.dispatcher, names))
