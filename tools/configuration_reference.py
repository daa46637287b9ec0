"""Renders `docs/configuration.md` and the list of the file's keys from the settings classes."""

from __future__ import annotations

import ast
import inspect
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from pydantic_core import PydanticUndefined

from services.configuration.file import settings_of
from services.endpoints.settings import EndpointsSettings
from services.worker.settings import WorkerSettings
from tools.fixed_numbers import render_fixed_numbers
from tools.number_texts import bytes_text, count_text, duration_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_settings import BaseSettings

CLASSES: Final[tuple[tuple[str, type[BaseSettings]], ...]] = (
    ("endpoints", EndpointsSettings),
    ("worker", WorkerSettings),
)

_INTRODUCTION: Final = """\
# Configuration

Generated from the settings classes by `make generate`; edit those, not this page.

Every setting is an environment variable, and a key of the YAML file that `KONGFLOW_CONFIG` names. The environment wins
over the file. One file may serve both services; each takes what is its own. A variable that is named like the key
(`KONGFLOW_API_CLIENT_TIMEOUT` for `api_client.timeout`) means the same as the documented one, which wins over it.
Durations are numbers of seconds or texts with a unit: `500 ms`, `30 s`, `10 min`, `24 h`, `7 d`.

```yaml
api_client:
  timeout: 30 s
  max_retries: 3
  retry_backoff: 1 s
  user_agent: Kongflow/1.0
queue:
  max_workers: 10
  poll_interval: 1 s
  max_attempts: 5
retry:
  base: 1 s
  factor: 2
  cap: 10 min
```

`kongflow config check` reads both and reports all mistakes of both services at once, by name and never by value, with
exit code 1; a key that does not exist is a mistake that names the nearest one that does. `kongflow config show` prints
what is in effect and where it comes from, with secrets masked; `--service worker` asks for one service alone, `--json`
for JSON. A service refuses to start with any mistake.

`config check` names unknown variables that begin with `KONGFLOW_` as well; those that Kubernetes sets for its services
are left alone. A running service ignores unknown variables, since others may share its environment.

What is no setting, and why, is in [the second table](#what-is-no-setting).

## Settings

"""
_HEAD: Final = "| key in the file | variable | default | range | what it is |\n|---|---|---|---|---|\n"
_FIXED: Final = """
## What is no setting

A number that would break a promise, a stored row or the other side of a wire if it differed is the same everywhere.

"""


def render_configuration_reference() -> str:
    """Return the page: every setting, those of both services first, then by service and by key, and what is none."""
    by_service = {name: _rows(cls) for name, cls in CLASSES}
    endpoints, worker = by_service["endpoints"], by_service["worker"]
    shared = endpoints.keys() & worker.keys()
    parts = [
        ("Both services", {key: endpoints[key] for key in shared}),
        ("Endpoints service", {key: row for key, row in endpoints.items() if key not in shared}),
        ("Worker", {key: row for key, row in worker.items() if key not in shared}),
    ]
    body = "".join(
        f"| **{title}** | | | | |\n" + "".join(rows[key] for key in sorted(rows, key=lambda key: ("." in key, key)))
        for title, rows in parts
    )
    return _INTRODUCTION + _HEAD + body + _FIXED + render_fixed_numbers()


def render_keys() -> str:
    """Return the module that lists every key of the file, so that each service knows the other's."""
    keys = sorted({setting.key for _, cls in CLASSES for setting in settings_of(cls).values()})
    listed = "".join(f'        "{key}",\n' for key in keys)
    return (
        '"""Every key of the configuration file, generated from the settings classes by `make generate`."""\n\n'
        "from __future__ import annotations\n\nfrom typing import Final\n\n"
        f"KEYS: Final = frozenset(\n    {{\n{listed}    }}\n)\n"
    )


def _rows(cls: type[BaseSettings]) -> dict[str, str]:
    docstrings = {name: text for base in reversed(cls.mro()) for name, text in _docstrings(base)}
    return {
        setting.key: (
            f"| `{setting.key}` | `{setting.variables[0]}` | {_default(cls, name)} | {_range(name, field)} "
            f"| {_sentences(name, docstrings)} |\n"
        )
        for name, setting in settings_of(cls).items()
        for field in (cls.model_fields[name],)
    }


def _docstrings(cls: type) -> Iterator[tuple[str, str]]:
    """Yield the docstring below each of a settings class's own fields; pydantic would read them in every process."""
    if not cls.__module__.startswith("services."):
        return
    (definition,) = ast.parse(inspect.getsource(cls)).body
    for field, text in pairwise(definition.body if isinstance(definition, ast.ClassDef) else []):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(docstring))):
                yield name, docstring


def _sentences(name: str, docstrings: Mapping[str, str]) -> str:
    if name not in docstrings:
        raise ValueError(f"the setting {name} has no docstring")
    return " ".join(docstrings[name].split()).replace("|", "\\|")


def _default(cls: type[BaseSettings], name: str) -> str:
    field = cls.model_fields[name]
    if field.is_required():
        return "**required**"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined or value in ("", ()):
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        return _number(name, value)
    if hasattr(value, "items"):
        return f"`{','.join(f'{queue}:{count}' for queue, count in value.items())}`"
    return f"`{value}`"


def _range(name: str, field: FieldInfo) -> str:
    bounds = {type(bound): bound for bound in field.metadata}
    low, high = bounds.get(Ge), bounds.get(Le)
    parts = []
    if isinstance(low, Ge):
        parts.append(f"from {_number(name, low.ge)}")
    if isinstance(above := bounds.get(Gt), Gt):
        parts.append(f"above {_number(name, above.gt)}")
    if isinstance(high, Le):
        parts.append(f"to {_number(name, high.le)}")
    if isinstance(below := bounds.get(Lt), Lt):
        parts.append(f"below {_number(name, below.lt)}")
    if parts:
        return " ".join(parts)
    if isinstance(least := bounds.get(MinLen), MinLen):
        most = bounds.get(MaxLen)
        return f"{least.min_length} to {most.max_length}" if isinstance(most, MaxLen) else f"≥ {least.min_length}"
    choices = getattr(field.annotation, "__args__", ())
    if choices and all(isinstance(choice, str) for choice in choices):
        return ", ".join(f"`{choice}`" for choice in choices)
    return ""


def _number(name: str, value: object) -> str:
    if not isinstance(value, int | float):
        raise TypeError(f"the setting {name} is bounded by what is no number")
    if name.endswith("_seconds"):
        return duration_text(value)
    return bytes_text(int(value)) if name.endswith("_bytes") else count_text(value)
