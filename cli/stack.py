"""`kongflow up`: the embedded stack in the foreground, with a picture of what is where."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cli.failures import REFUSED, UNREACHABLE, USAGE, CommandError
from cli.output import console, print_json, table
from services.configuration.settings import SettingsError
from services.embedded.process import EmbeddedServerError, ServerAwayError
from services.embedded.up import Stack, StackSettings, running_stack
from services.endpoints.settings import load_settings as load_endpoints_settings
from services.worker.settings import load_settings as load_worker_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

PROTOSET = Path(__file__).resolve().parents[1] / "gen" / "kongflow.protoset"
_LIST_ENDPOINTS = "kongflow.v1.EndpointService/ListEndpoints"
_VALID_UNTIL_MADE = "00" * 32

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `kongflow up` was asked for."""

    directory: Path
    grpc_address: str
    http_address: str
    postgres_port: int
    redis_port: int
    as_json: bool


def run_up(options: UpOptions) -> int:
    """Run the stack until SIGINT, SIGTERM or SIGHUP, or until something of it ends; return the exit code.

    Raises:
        CommandError: it cannot start, a variable is wrong, or a service or a server ended by itself.
    """
    variables = {name: value for name, value in os.environ.items() if name.startswith("KONGFLOW_")}
    _check_variables(variables)
    with showing_steps(quiet=options.as_json) as step:
        settings = StackSettings(
            directory=options.directory,
            grpc_address=options.grpc_address,
            http_address=options.http_address,
            postgres_port=options.postgres_port,
            redis_port=options.redis_port,
            variables=variables,
            on_step=step,
        )
        run_until_stopped(_up(settings, options))
    return 0


def run_until_stopped(work: Coroutine[Any, Any, Result]) -> Result | None:
    """Run `work`; a signal cancels it once, so that it can stop things in order, and gives None.

    A signal to work that is stopping things already, because something failed, does not hide why.

    Raises:
        CommandError: an embedded server could not start or ended by itself, or one that was given cannot be reached.
    """
    try:
        return asyncio.run(_cancelled_by_signals(work))
    except EmbeddedServerError as error:
        away = isinstance(error, ServerAwayError)
        raise CommandError(str(error), exit_code=UNREACHABLE if away else REFUSED) from error


@contextmanager
def showing_steps(*, quiet: bool) -> Iterator[Callable[[str], None]]:
    """Yield what shows, in one line on standard error, what is being done now."""
    if quiet:
        yield lambda _: None
        return
    out = console(to_errors=True)
    if not out.is_terminal:
        yield lambda step: out.print(f"{step} …", markup=False) if step else None
        return
    with out.status("Starting") as status:

        def step(text: str) -> None:
            if text:
                status.update(f"{text} …")
            else:
                status.stop()

        yield step


async def _cancelled_by_signals(work: Coroutine[Any, Any, Result]) -> Result | None:
    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        # A second signal while things stop would leave them half stopped.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, lambda: None)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


async def _up(settings: StackSettings, options: UpOptions) -> None:
    async with running_stack(settings) as stack:
        settings.on_step("")
        if options.as_json:
            print_json(
                {
                    "server": stack.grpc_target,
                    "http_url": stack.http_url,
                    "directory": str(options.directory),
                    "environment_id": stack.environment_id,
                },
                in_one_line=True,
            )
        else:
            _show(stack, options.directory)
        try:
            raise EmbeddedServerError(await stack.first_end())
        finally:
            console(to_errors=True).print("Stopping …", markup=False)


def _show(stack: Stack, directory: Path) -> None:
    out = console()
    rows = [
        ("gRPC", stack.grpc_target),
        ("HTTP (health, deployment hooks)", stack.http_url),
        ("console, for a browser", f"{stack.http_url}/console (sign in with a token)"),
        ("PostgreSQL", f"its address with its password: {directory / 'database-url'}"),
        ("environment", f"{stack.environment_id} (DEVELOPMENT)"),
        ("API key, which your app checks", str(directory / "api-key")),
        ("signing secret, for an app that verifies", str(directory / "signing-secret")),
        ("service token, for callers", str(directory / "service-token")),
        ("admin token", str(directory / "admin-token")),
        ("logs", str(directory / "logs")),
    ]
    out.print(table("KongFlow is up", ("what", "where"), rows))
    show_one = f"cat {shlex.quote(str(directory / 'signing-secret'))}"
    out.print(f"\nThe credentials are in files; `{show_one}` shows one.", markup=False)
    out.print("\nTry, in another terminal:\n", markup=False)
    for line in grpcurl_lines(stack, directory):
        out.print(line, markup=False, soft_wrap=True)
    out.print("\nCtrl-C stops all of it; the data stays.", markup=False)


def grpcurl_lines(stack: Stack, directory: Path) -> tuple[str, str, str]:
    """Return three lines that work as they are in a shell in this folder."""
    token = shlex.quote(str(directory / "service-token"))
    authorization = f'-H "authorization: Bearer $(cat {token})"'
    protoset = PROTOSET.relative_to(Path.cwd()) if PROTOSET.is_relative_to(Path.cwd()) else PROTOSET
    request = f'\'{{"environment_id": "{stack.environment_id}"}}\''
    return (
        f"grpcurl -plaintext {authorization} {stack.grpc_target} list",
        f"grpcurl -protoset {shlex.quote(str(protoset))} describe kongflow.v1.EndpointService.CreateEndpoint",
        f"grpcurl -plaintext {authorization} -d {request} {stack.grpc_target} {_LIST_ENDPOINTS}",
    )


def _check_variables(variables: dict[str, str]) -> None:
    """Refuse what either service would refuse, before anything is started.

    Raises:
        CommandError: one or more variables are wrong; all are named.
    """
    stands_in = {
        "database_url": variables.get("KONGFLOW_DATABASE_URL") or "postgresql://",
        "redis_url": variables.get("KONGFLOW_REDIS_URL") or "redis://",
        "secret_keys": variables.get("KONGFLOW_SECRET_KEYS") or _VALID_UNTIL_MADE,
        "lookup_pepper": variables.get("KONGFLOW_LOOKUP_PEPPER") or _VALID_UNTIL_MADE,
    }
    mistakes: list[str] = []
    try:
        load_endpoints_settings(**stands_in)
    except SettingsError as error:
        mistakes.extend(str(error).splitlines())
    try:
        load_worker_settings(redis_url=stands_in["redis_url"], worker_token="made-later", grpc_target="127.0.0.1:1")  # noqa: S106
    except SettingsError as error:
        mistakes.extend(str(error).splitlines())
    if mistakes:
        unique = list(dict.fromkeys(mistakes))
        raise CommandError(
            "KongFlow cannot start by these variables.",
            exit_code=USAGE,
            reason="SETTINGS",
            violations=[tuple(mistake.split(": ", 1)) for mistake in unique],  # type: ignore[misc]
        )
