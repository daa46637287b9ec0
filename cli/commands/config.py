"""`kongflow config`: the settings of both services, as the environment and the file of KONGFLOW_CONFIG give them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table

from cli.failures import REFUSED
from cli.options import JsonOption
from cli.output import console, print_json

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

commands = typer.Typer(
    help="Check and show the settings of both services: the environment, and the file that KONGFLOW_CONFIG names.",
    no_args_is_help=True,
)

_OTHER_VARIABLES: Final = frozenset(
    {
        "KONGFLOW_CONFIG",
        "KONGFLOW_CRASH_AT",
        "KONGFLOW_GRAFANA_PASSWORD",
        "KONGFLOW_IMAGE",
        "KONGFLOW_POSTGRES_PASSWORD",
        "KONGFLOW_REDIS_PASSWORD",
    }
)
"""The file's own, the crash points' of tests, and those of `docker-compose.yml`."""
_MASK: Final = "********"
_PASSWORD_IN_URL: Final = re.compile(r"(?<=://)([^/@:]*):[^/]*@")


class Service(Enum):
    """Whose settings are meant."""

    ENDPOINTS = "endpoints"
    WORKER = "worker"


_ServiceOption = Annotated[
    Service | None, typer.Option("--service", help="This service alone; else both.", show_default=False)
]


@commands.command()
def check(context: typer.Context, service: _ServiceOption = None, as_json: JsonOption = False) -> int:
    """Report every mistake of both services at once, by name and never by value; exit code 1 when there is one.

    Variables that begin with KONGFLOW_ and are no setting are mistakes, too.
    """
    mistakes = {name: lines for name, (_, lines) in _load(service).items()}
    mistakes["environment"] = _unknown_variables(context.find_root().command)
    if as_json:
        print_json({"ok": not any(mistakes.values()), "mistakes": mistakes})
    elif any(mistakes.values()):
        _print_mistakes(mistakes)
    else:
        checked = "both services" if service is None else f"the {service.value} service"
        console().print(f"The settings of {checked} are right.", markup=False)
    return REFUSED if any(mistakes.values()) else 0


@commands.command()
def show(service: _ServiceOption = None, as_json: JsonOption = False) -> int:
    """Show what is in effect and where it comes from, with secrets masked; a service with mistakes shows those."""
    loaded = _load(service)
    shown = {name: _effective(settings) for name, (settings, _) in loaded.items() if settings is not None}
    mistakes = {name: lines for name, (_, lines) in loaded.items()}
    if as_json:
        print_json({"settings": shown, "mistakes": mistakes})
        return REFUSED if any(mistakes.values()) else 0
    for name, settings in shown.items():
        table = Table("Setting", "Value", "From", title=f"{name} service", title_justify="left")
        for key, row in settings.items():
            table.add_row(key, row["value"], row["from"])
        console().print(table, markup=False)
    _print_mistakes(mistakes)
    return REFUSED if any(mistakes.values()) else 0


def _load(service: Service | None) -> dict[str, tuple[BaseSettings | None, list[str]]]:
    from services.configuration.settings import SettingsError  # noqa: PLC0415 - loads pydantic-settings
    from services.endpoints.settings import load_settings as load_endpoints  # noqa: PLC0415 - loads the services
    from services.worker.settings import load_settings as load_worker  # noqa: PLC0415 - the same

    loaded: dict[str, tuple[BaseSettings | None, list[str]]] = {}
    for of, load in ((Service.ENDPOINTS, load_endpoints), (Service.WORKER, load_worker)):
        if service not in {None, of}:
            continue
        try:
            loaded[of.value] = (load(), [])
        except SettingsError as error:
            loaded[of.value] = (None, str(error).splitlines())
    return loaded


def _unknown_variables(command: Any) -> list[str]:  # noqa: ANN401 - typer's own commands are untyped
    from services.configuration.file import settings_of, unknown_variables  # noqa: PLC0415 - loads pydantic-settings
    from services.endpoints.settings import EndpointsSettings  # noqa: PLC0415 - loads the services
    from services.worker.settings import WorkerSettings  # noqa: PLC0415 - the same

    settings = [*settings_of(EndpointsSettings).values(), *settings_of(WorkerSettings).values()]
    known = {variable for setting in settings for variable in setting.variables}
    commands_own = _variables_of(command)
    return unknown_variables(os.environ, known | commands_own | _OTHER_VARIABLES)


def _variables_of(command: Any) -> set[str]:  # noqa: ANN401 - typer's own commands are untyped
    """Return the variables that the options of a command and of those below it are read from."""
    found: set[str] = set()
    for parameter in command.params:
        found |= {parameter.envvar} if isinstance(parameter.envvar, str) else set(parameter.envvar or ())
    for below in getattr(command, "commands", {}).values():
        found |= _variables_of(below)
    return found


def _print_mistakes(mistakes: Mapping[str, list[str]]) -> None:
    for name, lines in mistakes.items():
        for line in lines:
            console().print(f"{name}: {line}", markup=False, soft_wrap=True)


def _effective(settings: BaseSettings) -> dict[str, dict[str, str]]:
    from services.configuration.file import origin, settings_of  # noqa: PLC0415 - loads pydantic-settings

    return {
        setting.key: {
            "value": _shown(settings, setting.field),
            "from": origin(type(settings), setting.field) or "default",
        }
        for setting in sorted(settings_of(type(settings)).values(), key=lambda setting: setting.key)
    }


def _shown(settings: BaseSettings, field: str) -> str:
    value: Any = getattr(settings, field)
    if value is None or value in ("", ()):
        return ""
    if hasattr(value, "get_secret_value"):
        return _MASK
    text = ",".join(f"{key}:{inner}" for key, inner in value.items()) if isinstance(value, Mapping) else _text(value)
    # What does not belong in a log is a URL that may hold a password.
    return text if type(settings).model_fields[field].repr else _PASSWORD_IN_URL.sub(rf"\1:{_MASK}@", text)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
