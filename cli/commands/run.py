"""`kongflow up|demo|serve|work`: run the services, together or one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import JsonOption


def up(
    *,
    directory: Annotated[
        Path, typer.Option(envvar="KONGFLOW_DIRECTORY", help="Where data, secrets and logs are kept.")
    ] = Path(".kongflow"),
    grpc_address: Annotated[
        str, typer.Option(envvar="KONGFLOW_GRPC_ADDRESS", help="host:port of gRPC; port 0 takes a free one.")
    ] = "127.0.0.1:50051",
    http_address: Annotated[
        str, typer.Option(envvar="KONGFLOW_HTTP_ADDRESS", help="host:port of HTTP; port 0 takes a free one.")
    ] = "127.0.0.1:8080",
    postgres_port: Annotated[
        int, typer.Option(envvar="KONGFLOW_POSTGRES_PORT", min=0, max=65_535, help="0 takes a free one.")
    ] = 0,
    redis_port: Annotated[
        int, typer.Option(envvar="KONGFLOW_REDIS_PORT", min=0, max=65_535, help="0 takes a free one.")
    ] = 0,
    as_json: JsonOption = False,
) -> int:
    """Run PostgreSQL, Redis, the endpoints service and a worker on this machine, until Ctrl-C."""
    from cli.stack import UpOptions, run_up  # noqa: PLC0415 - loads the services

    return run_up(
        UpOptions(
            directory=directory,
            grpc_address=grpc_address,
            http_address=http_address,
            postgres_port=postgres_port,
            redis_port=redis_port,
            as_json=as_json,
        )
    )


def demo(
    *,
    sdk: Annotated[bool, typer.Option("--sdk", help="Use a real @trigger.dev/sdk app; needs Node.js and npm.")] = False,
    as_json: JsonOption = False,
) -> int:
    """Register a sample endpoint with a stack of its own, show what was found, check it and clean up."""
    from cli.demo import run_demo  # noqa: PLC0415 - loads the services

    return run_demo(sdk=sdk, as_json=as_json)


def serve() -> int:
    """Run the endpoints service by the KONGFLOW_* variables, until SIGTERM or Ctrl-C."""
    from services.endpoints.__main__ import main  # noqa: PLC0415 - loads the service

    return main()


def work() -> int:
    """Run a worker by the KONGFLOW_* variables, until SIGTERM or Ctrl-C."""
    from services.worker.__main__ import main  # noqa: PLC0415 - loads the service

    return main()
