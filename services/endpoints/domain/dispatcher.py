"""A dispatcher: a rule that maps matching events to a job version or a dynamic trigger."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.errors import KongflowError, Reason
from services.endpoints.domain.event import DEFAULT_SOURCE
from services.endpoints.domain.filter import FilterError, compiled_filter

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

ANYTHING: Final = "{}"


class DispatcherOrigin(Enum):
    """Who wrote it: an index, which alone rewrites it, or a caller."""

    INDEX = "INDEX"
    API = "API"


class DispatchableType(Enum):
    """What it starts."""

    JOB_VERSION = "JOB_VERSION"
    DYNAMIC_TRIGGER = "DYNAMIC_TRIGGER"


@dataclass(frozen=True, slots=True)
class Dispatcher:
    """One dispatcher as it is stored; the filters are JSON texts that may no longer parse.

    `is_enabled` is true when its endpoint offers it and no operator disabled it. `account` is the identifier.
    `dispatchable_id` is that of the job version or of the dynamic trigger.
    """

    id: UUID
    environment_id: UUID
    origin: DispatcherOrigin
    event_names: tuple[str, ...]
    source: str
    payload_filter_json: str
    context_filter_json: str
    is_enabled: bool
    is_manual: bool
    account: str | None
    dispatchable_type: DispatchableType
    dispatchable_id: UUID
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NewDispatcher:
    """What a caller says about a dispatcher, checked."""

    event_names: tuple[str, ...]
    dispatchable_type: DispatchableType
    dispatchable_id: UUID
    source: str = DEFAULT_SOURCE
    payload_filter_json: str = ANYTHING
    context_filter_json: str = ANYTHING
    is_enabled: bool = True
    is_manual: bool = False
    account: str | None = None


@dataclass(frozen=True, slots=True)
class DispatcherChanges:
    """New values, checked; None leaves a value as it is, and an empty `account` takes the account away."""

    event_names: tuple[str, ...] | None = None
    source: str | None = None
    payload_filter_json: str | None = None
    context_filter_json: str | None = None
    is_enabled: bool | None = None
    is_manual: bool | None = None
    account: str | None = None

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is to change."""
        return self == DispatcherChanges()

    @property
    def is_more_than_enabling(self) -> bool:
        """Tell whether anything but `is_enabled` is to change."""
        return self != DispatcherChanges(is_enabled=self.is_enabled)


def change_refusal(dispatcher: Dispatcher, changes: DispatcherChanges) -> KongflowError | None:
    """Return why a dispatcher may not be changed like this; None when it may."""
    if dispatcher.origin is DispatcherOrigin.INDEX and changes.is_more_than_enabling:
        return _belongs_to_its_endpoint(dispatcher, "only `enabled` of it can change, its endpoint decides the rest")
    return None


def delete_refusal(dispatcher: Dispatcher) -> KongflowError | None:
    """Return why a dispatcher may not be deleted; None when it may."""
    if dispatcher.origin is DispatcherOrigin.INDEX:
        return _belongs_to_its_endpoint(dispatcher, "the next index would write it again, so disable it instead")
    return None


def filter_problem(dispatcher: Dispatcher) -> str | None:
    """Return which stored filter cannot be read and why; None when both can.

    A dispatcher with such a filter wants no event.
    """
    for field, text in (
        ("payload_filter_json", dispatcher.payload_filter_json),
        ("context_filter_json", dispatcher.context_filter_json),
    ):
        try:
            compiled_filter(text)
        except FilterError as error:
            return f"{field}: {error}"
    return None


def _belongs_to_its_endpoint(dispatcher: Dispatcher, consequence: str) -> KongflowError:
    return KongflowError(
        f"The dispatcher was written by an index: {consequence}.",
        reason=Reason.WRONG_STATE,
        metadata={
            "resource": "dispatcher",
            "dispatcher_id": str(dispatcher.id),
            "origin": dispatcher.origin.value,
        },
    )
