"""`kongflow environments`: which there are, their API keys and their signing secrets."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli.connection import connected, resolve_target
from cli.options import JsonOption, ServerOption, TokenOption
from cli.output import console, enum_name, print_json, table, time_text

if TYPE_CHECKING:
    from google.protobuf.message import Message

commands = typer.Typer(help="List environments; replace their API keys and signing secrets.", no_args_is_help=True)

EnvironmentArgument = Annotated[str, typer.Argument(help="The environment's id.")]


@commands.command(name="list")
def list_(*, server: ServerOption = "", token: TokenOption = "", as_json: JsonOption = False) -> None:
    """List the environments that the credential sees, oldest first, never their secrets."""
    from kongflow.v1 import tenancy_service_pb2  # noqa: PLC0415 - `kongflow --help` starts without it

    with connected(resolve_target(server=server, token=token)) as connection:
        response = connection.list_all(
            "TenancyService.ListEnvironments", tenancy_service_pb2.ListEnvironmentsRequest(), field="environments"
        )
    if as_json:
        print_json(response)
        return
    rows = [
        (
            one.slug,
            enum_name(one, "type").lower(),
            time_text(one, "update_time"),
            time_text(one, "api_key_last_use_time"),
            one.id,
        )
        for one in response.environments
    ]
    heads = ("name", "type", "changed (UTC)", "API key last used (UTC)", "id")
    console().print(table("Environments", heads, rows))


@commands.command(name="rotate-key")
def rotate_key(
    *,
    environment_id: EnvironmentArgument,
    overlap_hours: Annotated[
        float, typer.Option("--overlap-hours", min=0, max=168, help="How long the old key is still accepted.")
    ] = 0,
    server: ServerOption = "",
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Replace an environment's API key and show the new one, once. Needs an admin token."""
    from kongflow.v1 import tenancy_service_pb2  # noqa: PLC0415 - see above

    request = tenancy_service_pb2.RotateApiKeyRequest(environment_id=environment_id)
    request.overlap.FromTimedelta(timedelta(hours=overlap_hours))
    with connected(resolve_target(server=server, token=token, as_admin=True)) as connection:
        response = connection.call("TenancyService.RotateApiKey", request)
    _show(response, f"The new API key of {response.environment.slug}", response.api_key, as_json=as_json)


@commands.command(name="rotate-signing-secret")
def rotate_signing_secret(
    *,
    environment_id: EnvironmentArgument,
    overlap_hours: Annotated[
        float,
        typer.Option("--overlap-hours", min=0, max=168, help="How long calls are signed with the old secret as well."),
    ] = 24,
    server: ServerOption = "",
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Replace what an environment's calls are signed with and show it, once. Needs an admin token."""
    from kongflow.v1 import tenancy_service_pb2  # noqa: PLC0415 - see above

    request = tenancy_service_pb2.RotateSigningSecretRequest(environment_id=environment_id)
    request.overlap.FromTimedelta(timedelta(hours=overlap_hours))
    with connected(resolve_target(server=server, token=token, as_admin=True)) as connection:
        response = connection.call("TenancyService.RotateSigningSecret", request)
    _show(response, f"The new signing secret of {response.environment.slug}", response.signing_secret, as_json=as_json)


def _show(response: Message, what: str, secret: str, *, as_json: bool) -> None:
    if as_json:
        print_json(response)
        return
    console(to_errors=True).print(f"{what}, shown this once:", markup=False)
    console().print(secret, markup=False)
