"""`kongflow tokens`: the credentials of callers. Needs an admin token."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import uuid4

import typer

from cli.connection import connected, resolve_target
from cli.directory import KeptState
from cli.failures import USAGE, CommandError
from cli.options import JsonOption, ServerOption, TokenOption
from cli.output import console, enum_name, print_json, short_name, table, time_text

commands = typer.Typer(help="Create, list, rotate and revoke tokens. Needs an admin token.", no_args_is_help=True)


class KindName(StrEnum):
    """Who holds a token."""

    SERVICE = "service"
    WORKER = "worker"
    ADMIN = "admin"


class ScopeName(StrEnum):
    """What a service token allows."""

    READ = "read"
    WRITE = "write"
    OPERATE = "operate"


@commands.command()
def create(
    *,
    kind: Annotated[KindName, typer.Option(help="Who will hold it.")],
    name: Annotated[str, typer.Option(help="A name for people.")],
    organization: Annotated[
        str, typer.Option(help="The organization's id, of a service token; else the one of `kongflow up`.")
    ] = "",
    scope: Annotated[
        list[ScopeName] | None, typer.Option(help="What a service token allows; may be repeated. Default: read.")
    ] = None,
    expires_in_days: Annotated[
        int | None, typer.Option(min=1, max=3650, help="After how many days it stops being accepted. Default: never.")
    ] = None,
    server: ServerOption = "",
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Create a token and print its secret, which is shown this once."""
    from kongflow.v1 import tenancy_service_pb2, token_pb2  # noqa: PLC0415 - `kongflow --help` starts without it

    request = tenancy_service_pb2.CreateTokenRequest(
        kind=token_pb2.TokenKind.Value(f"TOKEN_KIND_{kind.name}"), name=name, request_id=str(uuid4())
    )
    if kind is KindName.SERVICE:
        request.organization_id = organization or KeptState.of_this_shell().fact("organization_id")
        scopes = scope or [ScopeName.READ]
        request.scopes.extend(token_pb2.TokenScope.Value(f"TOKEN_SCOPE_{one.name}") for one in scopes)
    elif organization or scope:
        raise CommandError("Only a service token has an organization and scopes.", exit_code=USAGE)
    if expires_in_days is not None:
        request.expire_time.FromDatetime(datetime.now(UTC) + timedelta(days=expires_in_days))
    with connected(resolve_target(server=server, token=token, as_admin=True)) as connection:
        response = connection.call("TenancyService.CreateToken", request)
    if as_json:
        print_json(response)
        return
    console(to_errors=True).print(
        f"Created {kind.value} token {response.token.id}. Its secret, shown this once:", markup=False
    )
    console().print(response.secret, markup=False)


@commands.command(name="list")
def list_(
    *,
    kind: Annotated[KindName | None, typer.Option(help="Only tokens of this kind.")] = None,
    include_revoked: Annotated[bool, typer.Option("--all", help="Revoked ones too.")] = False,
    server: ServerOption = "",
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """List tokens, oldest first, never their secrets."""
    from kongflow.v1 import tenancy_service_pb2, token_pb2  # noqa: PLC0415 - see above

    with connected(resolve_target(server=server, token=token, as_admin=True)) as connection:
        request = tenancy_service_pb2.ListTokensRequest(
            kind=token_pb2.TokenKind.Value(f"TOKEN_KIND_{kind.name if kind else 'UNSPECIFIED'}"),
            include_revoked=include_revoked,
        )
        response = connection.list_all("TenancyService.ListTokens", request, field="tokens")
    if as_json:
        print_json(response)
        return
    zero = token_pb2.TokenScope.Name(token_pb2.TOKEN_SCOPE_UNSPECIFIED)
    rows = [
        (
            one.name,
            enum_name(one, "kind").lower(),
            ", ".join(short_name(token_pb2.TokenScope.Name(scope), zero).lower() for scope in one.scopes),
            time_text(one, "expire_time"),
            time_text(one, "revoke_time"),
            time_text(one, "last_use_time"),
            one.id,
        )
        for one in response.tokens
    ]
    heads = ("name", "kind", "scopes", "expires (UTC)", "revoked (UTC)", "last used (UTC)", "id")
    console().print(table("Tokens", heads, rows))


@commands.command()
def rotate(
    *,
    token_id: Annotated[str, typer.Argument(help="The token's id.")],
    overlap_hours: Annotated[
        float, typer.Option("--overlap-hours", min=0, max=168, help="How long the old secret is still accepted.")
    ] = 0,
    server: ServerOption = "",
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Replace a token's secret and show the new one, once."""
    from kongflow.v1 import tenancy_service_pb2  # noqa: PLC0415 - see above

    request = tenancy_service_pb2.RotateTokenRequest(token_id=token_id)
    request.overlap.FromTimedelta(timedelta(hours=overlap_hours))
    with connected(resolve_target(server=server, token=token, as_admin=True)) as connection:
        response = connection.call("TenancyService.RotateToken", request)
    if as_json:
        print_json(response)
        return
    console(to_errors=True).print(f"The new secret of {response.token.name}, shown this once:", markup=False)
    console().print(response.secret, markup=False)


@commands.command()
def revoke(
    *,
    token_id: Annotated[str, typer.Argument(help="The token's id.")],
    server: ServerOption = "",
    token: TokenOption = "",
    as_json: JsonOption = False,
) -> None:
    """Revoke a token; every server refuses it within 5 seconds."""
    from kongflow.v1 import tenancy_service_pb2  # noqa: PLC0415 - see above

    with connected(resolve_target(server=server, token=token, as_admin=True)) as connection:
        response = connection.call(
            "TenancyService.RevokeToken", tenancy_service_pb2.RevokeTokenRequest(token_id=token_id)
        )
    if as_json:
        print_json(response)
    else:
        console().print(f"Revoked {response.token.name} ({response.token.id}).", markup=False)
