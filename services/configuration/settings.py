"""What both services' settings have in common: where they are read from, and how all mistakes are told at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from services.configuration.file import (
    PREFIX,
    file_or_reason,
    mistake_lines,
    settings_of,
    sources,
    unknown_keys,
)
from services.configuration.keys import KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping

_Settings = TypeVar("_Settings", bound="ServiceSettings")


class SettingsError(Exception):
    """One or more settings have an impossible value; each line of the text names one, without its value."""


class ServiceSettings(BaseSettings):
    """The settings of one service; frozen.

    Each field is the environment variable of its name in capitals with the prefix `KONGFLOW_`, and a key of the file
    that KONGFLOW_CONFIG names, where some stand in groups. The environment wins.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        # Validators are built when a class is first used, which the classes in between never are.
        defer_build=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in {int, float}:
            raise ValueError("must be a number")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings offers all of its own
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where settings come from, the strongest first: what is given, the environment, the file."""
        return sources(settings_cls, init_settings, env_settings)


def load(cls: type[_Settings], given: Mapping[str, Any]) -> _Settings:
    """Return the settings of `cls` from the environment and the file of KONGFLOW_CONFIG; `given` fields win over both.

    Raises:
        SettingsError: something is missing, impossible or no setting at all; all mistakes are named.
    """
    content, unreadable = file_or_reason()
    mistakes = [str(unreadable)] if unreadable is not None else []
    mistakes += unknown_keys(content, KEYS | {setting.key for setting in settings_of(cls).values()})
    try:
        settings = cls(**given)
    except ValidationError as error:
        # What a file that cannot be read would give is not missing.
        found = [each for each in error.errors() if unreadable is None or each["type"] != "missing"]
        raise SettingsError("\n".join([*mistakes, *mistake_lines(cls, found)])) from None
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return settings
