"""`kongflow migrate`: the schema of the database."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cli.directory import KeptState
from cli.failures import UNREACHABLE, USAGE, CommandError
from cli.options import JsonOption
from cli.output import console, print_json

if TYPE_CHECKING:
    from collections.abc import Coroutine

_VARIABLE: Final = "KONGFLOW_DATABASE_URL"

commands = typer.Typer(
    help="Bring the database of KONGFLOW_DATABASE_URL, or else of `kongflow up`, to a revision of the schema.",
    no_args_is_help=True,
)


WaitOption = Annotated[
    int,
    typer.Option(
        "--wait-seconds", min=0, max=86_400, help="For how long to try while others hold a table that changes."
    ),
]


@commands.command()
def up(*, wait_seconds: WaitOption = 60, as_json: JsonOption = False) -> None:
    """Bring the database to the newest schema; safe to repeat and to run twice at once."""
    from services.endpoints.store.migrations.runner import upgrade  # noqa: PLC0415 - loads the database's driver

    _run(upgrade(_database_url(), patience=timedelta(seconds=wait_seconds)))
    _show_status(as_json=as_json)


@commands.command()
def down(
    *,
    revision: Annotated[str, typer.Argument(help="The revision to go down to; `base` drops everything.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait_seconds: WaitOption = 60,
    as_json: JsonOption = False,
) -> None:
    """Take the schema down to an older revision; what only newer ones hold is lost."""
    from services.endpoints.store.migrations.runner import downgrade  # noqa: PLC0415 - as above

    if not yes:
        if as_json:
            raise CommandError("Nobody can be asked with --json: add --yes.", exit_code=USAGE)
        typer.confirm(f"Take the schema down to {revision}, and lose what is newer?", abort=True)
    _run(downgrade(_database_url(), revision, patience=timedelta(seconds=wait_seconds)))
    _show_status(as_json=as_json)


@commands.command()
def status(as_json: JsonOption = False) -> int:
    """Show where the database stands; exit code 1 when it is not at the newest schema."""
    return 0 if _show_status(as_json=as_json) else 1


def _show_status(*, as_json: bool) -> bool:
    from services.endpoints.store.migrations.runner import status as read_status  # noqa: PLC0415 - as above

    found = _run(read_status(_database_url()))
    if as_json:
        print_json({"current": found.current, "head": found.head, "is_current": found.is_current})
    else:
        current = f"is at revision {found.current}" if found.current else "has no schema yet"
        newest = "that is the newest" if found.is_current else f"the newest is {found.head}"
        console().print(f"The database {current}; {newest}.", markup=False)
    return bool(found.is_current)


def _database_url() -> str:
    from services.configuration.urls import postgresql_url  # noqa: PLC0415 - `kongflow --help` starts without it

    kept = KeptState.of_this_shell()
    given = os.environ.get(_VARIABLE)
    url = given or kept.secret("database-url")
    if not url:
        raise CommandError(f"There is no database: set {_VARIABLE}.", exit_code=USAGE)
    try:
        return postgresql_url(url)
    except ValueError as error:
        place = _VARIABLE if given else str(kept.directory / "database-url")
        raise CommandError(
            f"{place}: {error}", exit_code=USAGE, reason="SETTINGS", violations=[(place, str(error))]
        ) from error


def _run(work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 - whatever the work returns
    import asyncpg  # noqa: PLC0415 - loads the database's driver
    from alembic.util import CommandError as AlembicError  # noqa: PLC0415

    try:
        return asyncio.run(work)
    except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError) as error:
        raise CommandError("The database cannot be reached.", exit_code=UNREACHABLE) from error
    except asyncpg.ClientConfigurationError as error:
        raise CommandError(f"The database cannot be asked by these settings: {error}", exit_code=USAGE) from error
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
        raise CommandError(
            "Somebody's long transaction holds a table; nothing was changed. Who: "
            "SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start"
        ) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, AlembicError) as error:
        raise CommandError(f"The database refused: {error}") from error
