"""`kongflow jobs`: the jobs that indexes have found."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.commands.endpoints import find_endpoint
from cli.connection import connected, resolve_target
from cli.options import EnvironmentOption, JsonOption, ServerOption, TokenOption
from cli.output import console, enum_name, print_json, table

commands = typer.Typer(help="Look at the jobs that indexes have found.", no_args_is_help=True)


@commands.callback()
def group() -> None:
    """Look at the jobs that indexes have found."""


@commands.command(name="list")
def list_(
    *,
    endpoint: Annotated[str, typer.Option(help="Only jobs of this endpoint: its slug or id.")] = "",
    server: ServerOption = "",
    token: TokenOption = "",
    environment: EnvironmentOption = "",
    as_json: JsonOption = False,
) -> None:
    """List the jobs of the environment, each with its latest version."""
    from kongflow.v1 import catalog_service_pb2  # noqa: PLC0415 - `kongflow --help` starts without it

    target = resolve_target(server=server, token=token, environment=environment)
    with connected(target) as connection:
        request = catalog_service_pb2.ListJobsRequest(
            environment_id=target.environment_id,
            endpoint_id=find_endpoint(connection, endpoint).id if endpoint else "",
        )
        response = connection.list_all("CatalogService.ListJobs", request, field="jobs")
    if as_json:
        print_json(response)
        return
    rows = [
        (
            job.slug,
            job.latest_version.version,
            enum_name(job.latest_version, "state"),
            job.latest_version.trigger_type,
            ", ".join(job.latest_version.event_names),
            job.latest_version.endpoint_slug,
        )
        for job in response.jobs
    ]
    console().print(table("Jobs", ("job", "version", "state", "trigger", "events", "endpoint"), rows))
