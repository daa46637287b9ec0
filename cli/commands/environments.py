"""`kongflow environments`: their API keys. Needs an admin token."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from cli.connection import connected, resolve_target
from cli.options import JsonOption, ServerOption, TokenOption
from cli.output import console, print_json

commands = typer.Typer(help="Rotate the API keys of environments. Needs an admin token.", no_args_is_help=True)


@commands.callback()
def environments() -> None:
    """Keep the commands below a name of their own while there is one."""


@commands.command(name="rotate-key")
def rotate_key(
    *,
    environment_id: Annotated[str, typer.Argument(help="The environment's id.")],
    overlap_hours: Annotated[
        float, typer.Option("--overlap-hours", min=0, max=168, help="How long the old key is still accepted.")
    ] = 0,
    server: ServerOption = "",
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Replace an environment's API key and show the new one, once."""
    from kongflow.v1 import tenancy_service_pb2  # noqa: PLC0415 - `kongflow --help` starts without it

    request = tenancy_service_pb2.RotateApiKeyRequest(environment_id=environment_id)
    request.overlap.FromTimedelta(timedelta(hours=overlap_hours))
    with connected(resolve_target(server=server, token=token, as_admin=True)) as connection:
        response = connection.call("TenancyService.RotateApiKey", request)
    if as_json:
        print_json(response)
        return
    console(to_errors=True).print(f"The new API key of {response.environment.slug}, shown this once:", markup=False)
    console().print(response.api_key, markup=False)
