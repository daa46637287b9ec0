"""`kongflow endpoints`: register, look at, ping, index and delete endpoints."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.connection import PING_SECONDS, connected, resolve_target
from cli.failures import USAGE, CommandError
from cli.identifiers import is_uuid
from cli.index_waits import Asked, due_time, tell_wait
from cli.options import EndpointArgument, EnvironmentOption, JsonOption, NoWaitOption, ServerOption, TokenOption
from cli.output import NOTHING, as_dict, console, duration_text, enum_name, print_json, printable, table, time_text
from cli.watching import follow_index, index_progress

if TYPE_CHECKING:
    from cli.connection import Connection

commands = typer.Typer(help="Register, look at, ping, index and delete endpoints.", no_args_is_help=True)


class StateName(Enum):
    """The states of an endpoint, as they are typed."""

    HEALTHY = "healthy"
    FAILING = "failing"
    SUSPENDED = "suspended"


@commands.command()
def create(
    *,
    slug: Annotated[str, typer.Argument(help="The id that the app gives its client.")],
    url: Annotated[str, typer.Argument(help="Where the app answers, http or https.")],
    no_wait: NoWaitOption = False,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> int:
    """Register an endpoint, or give a registered one a new url: ping it, store it, index it."""
    from kongflow.v1 import endpoint_service_pb2  # noqa: PLC0415 - `kongflow --help` starts without it

    target = resolve_target(server=server, token=token, environment=environment)
    with connected(target) as connection:
        request = endpoint_service_pb2.CreateEndpointRequest(environment_id=target.environment_id, slug=slug, url=url)
        response = connection.call("EndpointService.CreateEndpoint", request, timeout=PING_SECONDS)
        if not as_json:
            verb = "Registered" if response.created else "Updated"
            console().print(f"{verb} {printable(slug)} as {response.endpoint.id}.", markup=False)
        asked = Asked(slug, response.index_id, response)
        return _show_outcome(connection, asked, wait=not no_wait, as_json=as_json)


@commands.command(name="list")
def list_(
    *,
    state: Annotated[StateName | None, typer.Option("--state", help="Only endpoints in this state.")] = None,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """List the endpoints of the environment, and why those fail that do."""
    from kongflow.v1 import endpoint_pb2, endpoint_service_pb2  # noqa: PLC0415 - see above

    target = resolve_target(server=server, token=token, environment=environment)
    with connected(target) as connection:
        request = endpoint_service_pb2.ListEndpointsRequest(
            environment_id=target.environment_id,
            state=endpoint_pb2.EndpointState.Value(f"ENDPOINT_STATE_{state.name if state else 'UNSPECIFIED'}"),
        )
        response = connection.list_all("EndpointService.ListEndpoints", request, field="endpoints")
    if as_json:
        print_json(response)
        return
    rows = [
        (
            endpoint.slug,
            enum_name(endpoint, "state"),
            str(endpoint.consecutive_failures),
            endpoint.state_reason or NOTHING,
            endpoint.url,
            endpoint.id,
            time_text(endpoint, "update_time"),
        )
        for endpoint in response.endpoints
    ]
    console().print(table("Endpoints", ("slug", "state", "failures", "why", "url", "id", "updated (UTC)"), rows))


@commands.command()
def show(
    *,
    endpoint: EndpointArgument,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show an endpoint, its newest indexes and the items of the newest one."""
    from kongflow.v1 import endpoint_service_pb2  # noqa: PLC0415 - see above

    target = resolve_target(server=server, token=token, environment=environment)
    with connected(target) as connection:
        found = find_endpoint(connection, endpoint)
        request = endpoint_service_pb2.ListEndpointIndexesRequest(endpoint_id=found.id)
        indexes = connection.list_all("EndpointService.ListEndpointIndexes", request, field="indexes", limit=10).indexes
        items = list_items(connection, indexes[0].id) if indexes else []
    if as_json:
        print_json(
            {
                "endpoint": as_dict(found),
                "indexes": [as_dict(index) for index in indexes],
                "items": [as_dict(item) for item in items],
            }
        )
        return
    out = console()
    facts = [
        ("slug", found.slug),
        ("id", found.id),
        ("url", found.url),
        ("state", enum_name(found, "state")),
        ("since (UTC)", time_text(found, "state_change_time")),
        ("failures in a row", str(found.consecutive_failures)),
        ("why", found.state_reason or NOTHING),
        ("next probe (UTC)", time_text(found, "next_probe_time")),
        ("asks for quiet until (UTC)", time_text(found, "quiet_until_time")),
        ("environment", found.environment_id),
        ("indexing hook", found.indexing_hook_identifier or f"{NOTHING} (needs the scope write)"),
        ("created (UTC)", time_text(found, "create_time")),
    ]
    out.print(table("Endpoint", ("field", "value"), facts))
    rows = [
        (
            time_text(index, "create_time"),
            enum_name(index, "source"),
            enum_name(index, "state"),
            str(index.items),
            index.error or index.reason,
            index.id,
        )
        for index in indexes
    ]
    out.print(table("Indexes, newest first", ("asked (UTC)", "source", "state", "items", "why", "id"), rows))
    if items:
        out.print(item_table("Items of the newest index", items))


@commands.command()
def ping(
    *,
    endpoint: EndpointArgument,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> int:
    """Call an endpoint to see whether it answers; exit code 1 when it does not."""
    from kongflow.v1 import endpoint_service_pb2  # noqa: PLC0415 - see above

    target = resolve_target(server=server, token=token, environment=environment)
    with connected(target) as connection:
        found = find_endpoint(connection, endpoint)
        request = endpoint_service_pb2.PingEndpointRequest(endpoint_id=found.id)
        response = connection.call("EndpointService.PingEndpoint", request, timeout=PING_SECONDS)
    if as_json:
        print_json(response)
    elif response.ok:
        console().print(f"{found.slug} answered in {duration_text(response, 'duration')}.", markup=False)
    else:
        status = f" (HTTP {response.http_status})" if response.http_status else ""
        console().print(f"{found.slug} did not answer as it must: {printable(response.error)}{status}", markup=False)
    return 0 if response.ok else 1


@commands.command()
def resume(
    *,
    endpoint: EndpointArgument,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make an endpoint HEALTHY at once; what waited for its next probe runs."""
    from kongflow.v1 import endpoint_service_pb2  # noqa: PLC0415 - see above

    target = resolve_target(server=server, token=token, environment=environment)
    with connected(target) as connection:
        found = find_endpoint(connection, endpoint)
        request = endpoint_service_pb2.ResumeEndpointRequest(endpoint_id=found.id)
        response = connection.call("EndpointService.ResumeEndpoint", request)
    if as_json:
        print_json(response)
        return
    console().print(f"{found.slug} is {enum_name(response.endpoint, 'state')}.", markup=False)


@commands.command()
def index(
    *,
    endpoint: EndpointArgument,
    force: Annotated[bool, typer.Option("--force", help="Now, past the window and past SUSPENDED.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for people.")] = "",
    no_wait: NoWaitOption = False,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> int:
    """Ask for an index of an endpoint; exit code 1 when it fails."""
    from kongflow.v1 import endpoint_index_pb2, endpoint_service_pb2  # noqa: PLC0415 - see above

    target = resolve_target(server=server, token=token, environment=environment)
    with connected(target) as connection:
        found = find_endpoint(connection, endpoint)
        request = endpoint_service_pb2.IndexEndpointRequest(
            endpoint_id=found.id,
            source=endpoint_index_pb2.ENDPOINT_INDEX_SOURCE_MANUAL,
            reason=reason,
            force=force,
        )
        response = connection.call("EndpointService.IndexEndpoint", request)
        asked = Asked(found.slug, response.index.id, response)
        return _show_outcome(connection, asked, wait=not no_wait, as_json=as_json)


@commands.command()
def delete(
    *,
    endpoint: EndpointArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Delete an endpoint, its indexes and everything that was registered from it."""
    from kongflow.v1 import endpoint_service_pb2  # noqa: PLC0415 - see above

    target = resolve_target(server=server, token=token, environment=environment)
    with connected(target) as connection:
        found = find_endpoint(connection, endpoint)
        if not yes:
            if as_json:
                raise CommandError("Nobody can be asked with --json: add --yes.", exit_code=USAGE)
            typer.confirm(f"Delete {found.slug} and everything that was registered from it?", abort=True)
        request = endpoint_service_pb2.DeleteEndpointRequest(endpoint_id=found.id)
        connection.call("EndpointService.DeleteEndpoint", request)
    if as_json:
        print_json({"endpoint": as_dict(found)})
    else:
        console().print(f"Deleted {found.slug}.", markup=False)


def find_endpoint(connection: Connection, endpoint: str) -> Any:  # noqa: ANN401 - generated without types for callers
    """Return the endpoint of this id, and else of this slug in the target's environment.

    Raises:
        CommandError: there is none, or the server cannot be asked.
    """
    from kongflow.v1 import endpoint_pb2, endpoint_service_pb2  # noqa: PLC0415 - see above

    get, not_found = "EndpointService.GetEndpoint", None
    if is_uuid(endpoint):
        try:
            return connection.call(get, endpoint_service_pb2.GetEndpointRequest(endpoint_id=endpoint)).endpoint
        except CommandError as error:
            if error.reason != "NOT_FOUND":
                raise
            not_found = error
    key = endpoint_pb2.EndpointKey(environment_id=connection.target.environment_id, slug=endpoint)
    try:
        return connection.call(get, endpoint_service_pb2.GetEndpointRequest(key=key)).endpoint
    except CommandError as error:
        raise not_found or error from None


def list_items(connection: Connection, index_id: str) -> list[Any]:
    """Return every item of an index in its order."""
    from kongflow.v1 import endpoint_service_pb2  # noqa: PLC0415 - see above

    request = endpoint_service_pb2.ListEndpointIndexItemsRequest(index_id=index_id)
    return list(connection.list_all("EndpointService.ListEndpointIndexItems", request, field="items").items)


def item_table(title: str, items: list[Any]) -> Any:  # noqa: ANN401 - what Rich can print
    """Return the table of an index's items."""
    rows = [
        (
            enum_name(item, "kind").lower().replace("_", " "),
            item.key,
            item.version,
            enum_name(item, "state"),
            item.reason,
        )
        for item in items
    ]
    return table(title, ("kind", "key", "version", "state", "reason"), rows)


def _show_outcome(connection: Connection, asked: Asked, *, wait: bool, as_json: bool) -> int:
    """Follow the index unless told otherwise, print what became of it and return the exit code.

    Raises:
        CommandError: the server cannot be asked, or somebody interrupted the wait.
    """
    due = due_time(asked.response, now=datetime.now(UTC))
    if due:
        tell_wait(asked, due, as_json=as_json)
    if not wait:
        if as_json:
            print_json(asked.response)
        else:
            console().print(f"Its index is {asked.index_id}.", markup=False)
        return 0
    try:
        with index_progress("Indexing", due=due, quiet=as_json) as update:
            final = follow_index(connection, asked.index_id, show=update)
    except KeyboardInterrupt:
        raise asked.left() from None
    items = list_items(connection, asked.index_id)
    state = enum_name(final, "state")
    if as_json:
        shown = {**as_dict(asked.response), "index": as_dict(final), "items": [as_dict(item) for item in items]}
        print_json(shown)
    else:
        out = console()
        if items:
            out.print(item_table("", items))
        error = f": {printable(final.error)}" if final.error else ""
        out.print(f"The index {state.lower().replace('_', ' ')}{error}.", markup=False)
    return 1 if state == "FAILED" else 0
