"""The options that commands share."""

from __future__ import annotations

from typing import Annotated

import typer

ServerOption = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="KONGFLOW_SERVER",
        help="host:port of the endpoints service; else the one of `kongflow up`, else 127.0.0.1:50051.",
        show_default=False,
    ),
]
TokenOption = Annotated[
    str,
    typer.Option(
        "--token",
        envvar="KONGFLOW_TOKEN",
        help=(
            "A token or an environment's API key; else, for the server of `kongflow up`, the one it keeps. "
            "Safer as KONGFLOW_TOKEN."
        ),
        show_default=False,
        show_envvar=True,
    ),
]
EnvironmentOption = Annotated[
    str,
    typer.Option(
        "--environment",
        envvar="KONGFLOW_ENVIRONMENT",
        help="The environment's id; else the one of `kongflow up`. An API key needs none.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON with the contract's field names.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the index.")]
EndpointArgument = Annotated[str, typer.Argument(metavar="ENDPOINT", help="The endpoint's slug or id.")]
EventArgument = Annotated[str, typer.Argument(metavar="EVENT", help="The event's id, or the sender's own id of it.")]
SinceOption = Annotated[str, typer.Option("--since", help="Only those written then or later: 2h, 7d, or ISO 8601.")]
UntilOption = Annotated[str, typer.Option("--until", help="Only those written before: 2h, 7d, or ISO 8601.")]
