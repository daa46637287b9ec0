"""`kongflow config`: the settings of both services, as the environment and the file of KONGFLOW_CONFIG give them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

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

_MASK: Final = "********"
_PASSWORD_IN_URL: Final = re.compile(r"(?<=://)([^/@:]*):[^/]*@")


@commands.command()
def check(as_json: JsonOption = False) -> int:
    """Report every mistake of both services at once, by name and never by value; exit code 1 when there is one."""
    mistakes = {name: lines for name, (_, lines) in _load_both().items()}
    if as_json:
        print_json({"ok": not any(mistakes.values()), "mistakes": mistakes})
    elif any(mistakes.values()):
        _print_mistakes(mistakes)
    else:
        console().print("The settings of both services are right.", markup=False)
    return REFUSED if any(mistakes.values()) else 0


@commands.command()
def show(as_json: JsonOption = False) -> int:
    """Show what is in effect and where it comes from, with secrets masked; a service with mistakes shows those."""
    loaded = _load_both()
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


def _load_both() -> dict[str, tuple[BaseSettings | None, list[str]]]:
    from services.endpoints.settings import SettingsError as EndpointsError  # noqa: PLC0415 - loads the services
    from services.endpoints.settings import load_settings as load_endpoints  # noqa: PLC0415 - the same
    from services.worker.settings import SettingsError as WorkerError  # noqa: PLC0415 - the same
    from services.worker.settings import load_settings as load_worker  # noqa: PLC0415 - the same

    loaded: dict[str, tuple[BaseSettings | None, list[str]]] = {}
    for name, load in (("endpoints", load_endpoints), ("worker", load_worker)):
        try:
            loaded[name] = (load(), [])
        except (EndpointsError, WorkerError) as error:
            loaded[name] = (None, str(error).splitlines())
    return loaded


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
