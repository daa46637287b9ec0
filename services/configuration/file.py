"""The settings that come from a YAML file: its groups, and what is wrong with it."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource
from pydantic_settings.sources import EnvSettingsSource

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

FILE_VARIABLE: Final = "KONGFLOW_CONFIG"
PREFIX: Final = "KONGFLOW_"

_SERVICE_LINK: Final = re.compile(r"_SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)$|_PORT(_[0-9]+_(TCP|UDP|SCTP)(_[A-Z]+)?)?$")


class ConfigurationFileError(Exception):
    """The file of KONGFLOW_CONFIG cannot be read; the text says why, without any value of it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting's names: the field's, the one in the file, and the environment's, the documented one first."""

    field: str
    key: str
    variables: tuple[str, ...]


def settings_of(cls: type[BaseSettings]) -> Mapping[str, Setting]:
    """Return every setting of `cls` by the name of its field."""
    return {name: Setting(name, key, _variables(cls, name, key)) for name, key in _keys(cls)}


def sources(
    cls: type[BaseSettings], given: PydanticBaseSettingsSource, environment: PydanticBaseSettingsSource
) -> tuple[PydanticBaseSettingsSource, ...]:
    """Return where `cls` is read from, the strongest first: what is given, the environment, the file."""
    return given, environment, KeyVariables(cls), ConfigurationFile(cls)


class KeyVariables(EnvSettingsSource):
    """Reads the variables that are named like keys of the file: `KONGFLOW_API_CLIENT_TIMEOUT`."""

    def __call__(self) -> dict[str, Any]:
        """Return the raw texts by field."""
        found = {}
        for setting in settings_of(self.settings_cls).values():
            text = os.environ.get(_variable_of_key(setting.key))
            if text is not None:
                found[setting.field] = text
        return found


class ConfigurationFile(PydanticBaseSettingsSource):
    """Reads the file that KONGFLOW_CONFIG names: groups of settings, as keys within keys.

    Keys that are none of this service's are left out; `unknown_keys` names those that are nobody's. A file that cannot
    be read gives nothing; `load` says why.
    """

    def __call__(self) -> dict[str, Any]:
        """Return the values by field."""
        content, _ = file_or_reason()
        flat = dict(_flatten(content, _groups(key for _, key in _keys(self.settings_cls))))
        return {setting.field: flat[key] for key, setting in _by_key(self.settings_cls).items() if key in flat}

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the library's
        """Return the value of one field, its name, and that it is no text to be decoded."""
        return self().get(field_name), field_name, False


def file_or_reason() -> tuple[Mapping[str, Any], ConfigurationFileError | None]:
    """Return the content of the file that KONGFLOW_CONFIG names, or nothing and why it cannot be read."""
    try:
        return read_file(), None
    except ConfigurationFileError as error:
        return {}, error


class _TwiceError(Exception):
    """A mapping has a key twice."""


class _OnceLoader(yaml.SafeLoader):
    """Reads what the safe loader reads, but for mappings with a key twice, of which that takes the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the library's
        """Return the mapping of a node."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen and isinstance(key_node, yaml.ScalarNode):
                raise _TwiceError(f"has {key_node.value} twice (line {key_node.start_mark.line + 1})")
            if isinstance(key_node, yaml.ScalarNode):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def read_file() -> Mapping[str, Any]:
    """Return the content of the file that KONGFLOW_CONFIG names; nothing when it names none.

    Raises:
        ConfigurationFileError: there is no such file, or it is no YAML mapping, or one has a key twice.
    """
    path = os.environ.get(FILE_VARIABLE)
    if not path:
        return {}
    try:
        content = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_OnceLoader)  # noqa: S506 - a safe one
    except OSError as error:
        raise ConfigurationFileError(f"{FILE_VARIABLE}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationFileError(f"{FILE_VARIABLE}: is not UTF-8") from error
    except _TwiceError as error:
        raise ConfigurationFileError(f"{FILE_VARIABLE}: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark is not None else ""
        raise ConfigurationFileError(f"{FILE_VARIABLE}: is not YAML{where}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationFileError(f"{FILE_VARIABLE}: must be a mapping of groups and settings")
    return content


def unknown_keys(content: Mapping[str, Any], known: Collection[str]) -> list[str]:
    """Return one line for each key that is no setting, with the nearest one that is."""
    groups = _groups(known)
    keys = sorted({key for key, _ in _flatten(content, groups)} - set(known))
    return [f"{key}: is no setting{_suggestion(key, known, groups)}" for key in keys]


def unknown_variables(environment: Collection[str], known: Collection[str]) -> list[str]:
    """Return one line for each variable of ours that is none of `known`, with the nearest one that is.

    Variables that Kubernetes sets for a service whose name begins like ours are left out.
    """
    lines = []
    for name in sorted(set(environment) - set(known)):
        if name.startswith(PREFIX) and not _SERVICE_LINK.search(name):
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.8)
            lines.append(f"{name}: is no setting{f'; did you mean {near[0]}?' if near else ''}")
    return lines


def mistake_lines(cls: type[BaseSettings], mistakes: Collection[ErrorDetails]) -> list[str]:
    """Return one line for each mistake of a validation: the variable, or the file's key, and why; never the value."""
    return [
        f"{_place(cls, str(mistake['loc'][0]))}: {_reason(mistake)}"
        for mistake in mistakes
        # A default that follows from a setting with a mistake is no mistake of its own.
        if mistake["type"] != "default_factory_not_called"
    ]


def origin(cls: type[BaseSettings], field: str) -> str | None:
    """Return the variable or the file's key that gives `field`; None when nothing does."""
    setting = settings_of(cls)[field]
    for variable in setting.variables:
        if variable in os.environ:
            return variable
    return setting.key if field in ConfigurationFile(cls)() else None


def _place(cls: type[BaseSettings], location: str) -> str:
    field = location if location in cls.model_fields else _field_of_alias(cls, location)
    return origin(cls, field) or settings_of(cls)[field].variables[0]


def _field_of_alias(cls: type[BaseSettings], location: str) -> str:
    return next(name for name, setting in settings_of(cls).items() if location in setting.variables)


def _reason(mistake: ErrorDetails) -> str:
    return mistake["msg"].removeprefix("Value error, ")


def _keys(cls: type[BaseSettings]) -> Iterator[tuple[str, str]]:
    for name, field in cls.model_fields.items():
        extra = field.json_schema_extra
        yield name, str(extra["key"]) if isinstance(extra, dict) and "key" in extra else name


def _by_key(cls: type[BaseSettings]) -> Mapping[str, Setting]:
    return {setting.key: setting for setting in settings_of(cls).values()}


def _variables(cls: type[BaseSettings], name: str, key: str) -> tuple[str, ...]:
    alias = cls.model_fields[name].validation_alias
    choices = [str(choice) for choice in getattr(alias, "choices", ()) if str(choice).startswith(PREFIX)]
    return tuple(dict.fromkeys([*(choices or [f"{PREFIX}{name.upper()}"]), _variable_of_key(key)]))


def _variable_of_key(key: str) -> str:
    return PREFIX + key.replace(".", "_").upper()


def _groups(keys: Collection[str] | Iterator[str]) -> frozenset[str]:
    return frozenset(key.partition(".")[0] for key in keys if "." in key)


def _flatten(content: Mapping[str, Any], groups: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value); what is no group keeps a mapping as its value."""
    for name, value in content.items():
        if name in groups and isinstance(value, dict):
            yield from ((f"{name}.{inner}", inner_value) for inner, inner_value in value.items())
        elif name in groups and value is None:
            continue
        else:
            yield str(name), value


def _suggestion(key: str, known: Collection[str], groups: Collection[str]) -> str:
    if key in groups:
        return "; it is a group, so it must be a mapping"
    # A key in the wrong group is nearest by its last part; a misspelt group by its whole name.
    by_last_part = {name.rpartition(".")[2]: name for name in sorted(known)}
    near = difflib.get_close_matches(key, sorted({*known, *groups}), n=1, cutoff=0.6)
    near = near or [
        by_last_part[part]
        for part in difflib.get_close_matches(key.rpartition(".")[2], sorted(by_last_part), n=1, cutoff=0.7)
    ]
    return f"; did you mean {near[0]}?" if near else ""
