"""What an endpoint offers, on the wire: one model per thing that an index answer lists.

The models follow the protocol as of SDK 2.3.18 and take what older SDKs send (sources with `events`, a `queue`, a
`startPosition`); what they do not know is dropped. Where the protocol allows one string or several, they keep a list.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from services.endpoints.domain.cron import find_cron_problem
from services.endpoints.domain.filter_shape import find_filter_problem
from services.endpoints.domain.versions import is_version

MAX_SLUG_CHARACTERS: Final = 200
MAX_SOURCE_KEY_CHARACTERS: Final = 500
# SDKs give the job that registers a source, and that job's queue of runs, the key of the source.
MAX_JOB_SLUG_CHARACTERS: Final = MAX_SOURCE_KEY_CHARACTERS
MAX_OPTION_BYTES: Final = 2_000
MAX_EVENT_NAMES: Final = 100
# No event has a longer name or source.
MAX_MATCHED_CHARACTERS: Final = 256
MAX_INTEGRATIONS: Final = 100
MIN_INTERVAL_SECONDS: Final = 20
MAX_INTERVAL_SECONDS: Final = 2_592_000
MAX_CONCURRENCY: Final = 2_147_483_647

CONTROL_CHARACTERS: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def find_key_problem(text: object, *, max_characters: int = MAX_SLUG_CHARACTERS) -> str | None:
    """Return what keeps `text` from naming an item, or None when it may."""
    if not isinstance(text, str):
        return "must be a string"
    if not text:
        return "must not be empty"
    if len(text) > max_characters:
        return f"must have at most {max_characters} characters"
    if CONTROL_CHARACTERS.search(text):
        return "must not hold control characters"
    return None


def _refuse(description: str) -> PydanticCustomError:
    return PydanticCustomError("refused", "{description}", {"description": description})


def _check_slug(text: str) -> str:
    if problem := find_key_problem(text):
        raise _refuse(problem)
    return text


def _check_source_key(text: str) -> str:
    if problem := find_key_problem(text, max_characters=MAX_SOURCE_KEY_CHARACTERS):
        raise _refuse(problem)
    return text


def _check_version(text: str) -> str:
    if not is_version(text):
        shown = text if len(text) <= MAX_SLUG_CHARACTERS else f"{text[:MAX_SLUG_CHARACTERS]}…"
        raise _refuse(f'"{shown}" must be three numbers of at most 15 digits, such as 1.0.0')
    return text


def _check_cron(text: str) -> str:
    if problem := find_cron_problem(text):
        raise _refuse(problem)
    return text


def _check_filter(value: dict[str, object]) -> dict[str, object]:
    if problem := find_filter_problem(value):
        path, description = problem
        raise PydanticCustomError("refused", "{description}", {"description": description, "path": path})
    return value


def _check_option_sizes(options: dict[str, list[str]]) -> dict[str, list[str]]:
    for name, values in options.items():
        _check_option_size(name, values, path=(name,))
    return options


def _check_event_sizes(events: list[str]) -> list[str]:
    _check_option_size("event", events, path=())
    return events


def _check_option_size(name: str, values: list[str], *, path: tuple[str, ...]) -> None:
    """Keep an option's name and value short enough for the index that holds them together."""
    for place, value in enumerate(values):
        if len(name.encode()) + len(value.encode()) > MAX_OPTION_BYTES:
            description = f"must have at most {MAX_OPTION_BYTES} bytes together with the option's name"
            raise PydanticCustomError("refused", "{description}", {"description": description, "path": (*path, place)})


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _as_integer(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


Slug = Annotated[str, AfterValidator(_check_slug)]
SourceKey = Annotated[str, AfterValidator(_check_source_key)]
JobSlug = SourceKey
Version = Annotated[str, AfterValidator(_check_version)]
Filter = Annotated[dict[str, object], AfterValidator(_check_filter)]
Name = Annotated[str, StringConstraints(max_length=500)]
EventName = Annotated[str, StringConstraints(min_length=1, max_length=500)]
EventNames = Annotated[list[EventName], BeforeValidator(_as_list), Field(min_length=1, max_length=MAX_EVENT_NAMES)]
Matched = Annotated[str, StringConstraints(max_length=MAX_MATCHED_CHARACTERS)]
MatchedName = Annotated[str, StringConstraints(min_length=1, max_length=MAX_MATCHED_CHARACTERS)]
MatchedNames = Annotated[list[MatchedName], BeforeValidator(_as_list), Field(min_length=1, max_length=MAX_EVENT_NAMES)]
Titles = Annotated[list[Name], BeforeValidator(_as_list)]
Limit = Annotated[int, BeforeValidator(_as_integer), Field(ge=1, le=MAX_CONCURRENCY)]
IntervalSeconds = Annotated[int, BeforeValidator(_as_integer), Field(ge=MIN_INTERVAL_SECONDS, le=MAX_INTERVAL_SECONDS)]
OptionValue = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class _Wire(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, alias_generator=to_camel)


class JobReference(_Wire):
    """Names one version of a job, of whatever form: one that is none is refused with its job, not with who names it."""

    id: JobSlug
    version: Name


class DisplayProperty(_Wire):
    """One line that a dashboard shows."""

    label: str
    text: str
    url: str | None = None
    image_url: list[str] | None = None


class EventExample(_Wire):
    """A payload to try a job with."""

    id: Slug
    name: Name
    icon: str | None = None
    payload: object = None


class EventSpecification(_Wire):
    """What a job says about its event; it plays no part in matching."""

    name: EventNames
    title: str
    source: str
    icon: str
    filter: Filter | None = None
    properties: list[DisplayProperty] | None = None
    event_schema: object = Field(default=None, alias="schema")
    examples: list[EventExample] | None = None


class EventRule(_Wire):
    """Which events a dispatcher matches."""

    event: MatchedNames
    source: Matched
    payload: Filter | None = None
    context: Filter | None = None


class CronOptions(_Wire):
    """When a cron schedule is due, in UTC."""

    cron: Annotated[str, AfterValidator(_check_cron)]


class IntervalOptions(_Wire):
    """How often an interval schedule is due: 20 to 2,592,000 seconds."""

    seconds: IntervalSeconds


class CronSchedule(_Wire):
    """A schedule by cron expression."""

    type: Literal["cron"]
    options: CronOptions
    metadata: object = None
    account_id: str | None = None


class IntervalSchedule(_Wire):
    """A schedule by interval."""

    type: Literal["interval"]
    options: IntervalOptions
    metadata: object = None
    account_id: str | None = None


class StaticTrigger(_Wire):
    """Starts a job for each event that matches a rule."""

    type: Literal["static"]
    title: Titles
    rule: EventRule
    properties: list[DisplayProperty] | None = None
    link: str | None = None
    help: object = None


class ScheduledTrigger(_Wire):
    """Starts a job by schedule."""

    type: Literal["scheduled"]
    schedule: Annotated[CronSchedule | IntervalSchedule, Field(discriminator="type")]


class DynamicTriggerUse(_Wire):
    """Starts a job by what is registered with a dynamic trigger or schedule later."""

    type: Literal["dynamic"]
    id: Slug


class InvokeTrigger(_Wire):
    """Starts a job only when somebody asks for it by name."""

    type: Literal["invoke"]


class IntegrationMetadata(_Wire):
    """What an integration connects to."""

    id: Slug
    name: Name
    instructions: str | None = None


class Integration(_Wire):
    """An integration as code declares it."""

    id: Slug
    metadata: IntegrationMetadata
    auth_source: Literal["HOSTED", "LOCAL", "RESOLVER"]


class JobQueue(_Wire):
    """A queue of runs as SDKs before 2.1 declare it."""

    name: JobSlug
    max_concurrent: Limit | None = None


def _as_queue(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


def _as_concurrency(value: object) -> object:
    """Read the two forms of a limit as one; a bare number has no id."""
    return value if isinstance(value, dict) or value is None else {"limit": value}


class ConcurrencyLimit(_Wire):
    """How many runs of a job go at once, on its own (`id` absent) or in a group."""

    id: Slug | None = None
    limit: Limit


class JobOffer(_Wire):
    """A job that an index answer lists.

    Source: protocol, section 9.3.
    """

    id: JobSlug
    name: Name
    version: Version
    event: EventSpecification
    trigger: Annotated[
        StaticTrigger | ScheduledTrigger | DynamicTriggerUse | InvokeTrigger, Field(discriminator="type")
    ]
    # A few bytes name one that has kilobytes, and a job is read with all of them.
    integrations: dict[Slug, Integration] = Field(default_factory=dict, max_length=MAX_INTEGRATIONS)
    internal: bool = False
    queue: Annotated[JobQueue | None, BeforeValidator(_as_queue)] = None
    start_position: Literal["initial", "latest"] = "latest"
    enabled: bool = True
    preprocess_runs: bool = False
    concurrency_limit: Annotated[ConcurrencyLimit | None, BeforeValidator(_as_concurrency)] = None


class SourceOffer(_Wire):
    """A source that an index answer lists; version 1 has `events`, version 2 has `options`.

    Source: protocol, section 9.3.
    """

    version: Literal["1", "2"] = "1"
    channel: Literal["HTTP", "SQS", "SMTP"]
    integration: Integration
    key: SourceKey
    params: object = None
    events: Annotated[list[OptionValue], AfterValidator(_check_event_sizes)] | None = None
    options: Annotated[dict[Slug, list[OptionValue]], AfterValidator(_check_option_sizes)] | None = None
    register_source_job: JobReference | None = None


class DynamicTriggerOffer(_Wire):
    """A dynamic trigger or a dynamic schedule that an index answer lists.

    Source: protocol, section 9.3.
    """

    id: Slug
    jobs: list[JobReference]
    register_source_job: JobReference | None = None
