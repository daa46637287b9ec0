"""The bodies of the endpoint protocol's calls and of their answers, apart from the items of an index.

What is sent omits absent optionals (an SDK refuses null for them) and writes times in UTC with milliseconds and `Z`.
What is received ignores unknown keys, so that older and newer SDKs both fit.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    StrictBool,
    TypeAdapter,
    ValidationError,
    model_serializer,
)
from pydantic.alias_generators import to_camel

from services.endpoints.domain.json_text import parse_json


def _wire_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def _in_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


WireTime: TypeAlias = Annotated[AwareDatetime, PlainSerializer(_wire_time, return_type=str)]
ReceivedTime: TypeAlias = Annotated[datetime, AfterValidator(_in_utc)]


class AnswerShapeError(ValueError):
    """An answer is JSON but not of the promised shape; the message names the first places that are wrong."""


class SentModel(BaseModel):
    """A body that KongFlow sends: None means absent, except in fields that carry the customer's JSON.

    A field named in `json_fields` is sent, null included, when it was given, and left out when it was not.
    """

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="forbid")
    json_fields: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_absent_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        absent = {
            name
            for name in type(self).model_fields
            if (name not in self.model_fields_set if name in self.json_fields else getattr(self, name) is None)
        }
        hidden = absent | {to_camel(name) for name in absent}
        return {key: value for key, value in values.items() if key not in hidden}

    def to_wire(self) -> dict[str, JsonValue]:
        """Return the body as JSON values, ready to be written."""
        return self.model_dump(mode="json", by_alias=True)


class ReceivedModel(BaseModel):
    """A shape that an endpoint sends: unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore")


# Source: protocol 1.6, 1.7 and 9.2: what a run is given.


class SentEvent(SentModel):
    """An event as a run sees it; `payload` must be given and may be null."""

    json_fields: ClassVar[frozenset[str]] = frozenset({"payload", "context"})

    id: str
    name: str
    payload: JsonValue
    context: JsonValue = None
    timestamp: WireTime
    deliver_at: WireTime | None = None
    delivered_at: WireTime | None = None


class JobReference(SentModel):
    """A job by its slug and version."""

    id: str
    version: str


class RunReference(SentModel):
    """The run that is carried out; `started_at` is the start of this execution, not of the run."""

    id: str
    is_test: bool
    started_at: WireTime
    is_retry: bool = False


class PreprocessedRunReference(SentModel):
    """The run whose properties are asked for."""

    id: str
    is_test: bool


class EnvironmentReference(SentModel):
    """The environment of a run."""

    id: str
    slug: str
    type: Literal["PRODUCTION", "STAGING", "DEVELOPMENT", "PREVIEW"]


class OrganizationReference(SentModel):
    """The organization of a run."""

    id: str
    title: str
    slug: str


class ProjectReference(SentModel):
    """The project of a run."""

    id: str
    name: str
    slug: str


class NamedMetadata(SentModel):
    """An account or a source: an id and whatever the customer attached to it."""

    json_fields: ClassVar[frozenset[str]] = frozenset({"metadata"})

    id: str
    metadata: JsonValue = None


class CachedTask(SentModel):
    """A finished task, so that a resumed run does not repeat it; only COMPLETED ones may be sent."""

    json_fields: ClassVar[frozenset[str]] = frozenset({"output"})

    id: str
    idempotency_key: str
    status: Literal["COMPLETED"] = "COMPLETED"
    noop: bool = False
    output: JsonValue = None
    parent_id: str | None = None


class ConnectionAuth(SentModel):
    """The credentials of one integration of a run."""

    type: Literal["oauth2", "apiKey"]
    access_token: str = Field(repr=False)
    scopes: list[str] | None = None
    additional_fields: dict[str, str] | None = Field(default=None, repr=False)


class AutoYieldConfig(SentModel):
    """How much time, in milliseconds, must be left at each step for a run to go on."""

    start_task_threshold: int
    before_execute_task_threshold: int
    before_complete_task_threshold: int
    after_complete_task_threshold: int


class RunJobBody(SentModel):
    """The request of EXECUTE_JOB; `run_chunk_execution_limit` is in milliseconds."""

    event: SentEvent
    job: JobReference
    run: RunReference
    environment: EnvironmentReference
    organization: OrganizationReference
    project: ProjectReference | None = None
    account: NamedMetadata | None = None
    source: NamedMetadata | None = None
    tasks: list[CachedTask] | None = None
    connections: dict[str, ConnectionAuth] | None = None
    cached_task_cursor: str | None = None
    noop_tasks_set: str | None = None
    yielded_executions: list[str] | None = None
    run_chunk_execution_limit: int | None = None
    auto_yield_config: AutoYieldConfig | None = None


class PreprocessRunBody(SentModel):
    """The request of PREPROCESS_RUN."""

    event: SentEvent
    job: JobReference
    run: PreprocessedRunReference
    environment: EnvironmentReference
    organization: OrganizationReference
    account: NamedMetadata | None = None


class HttpSourceDelivery(BaseModel):
    """A stored webhook request, to be replayed to the endpoint that knows its source.

    `params`, `data` and `metadata` are the source's JSON; `body` is what the third party sent, byte for byte.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    secret: str = Field(repr=False)
    http_url: str
    http_method: str
    http_headers: dict[str, str] = Field(repr=False)
    params: JsonValue = None
    data: JsonValue = None
    body: bytes | None = Field(default=None, repr=False)
    dynamic_id: str | None = None
    auth: ConnectionAuth | None = None
    metadata: JsonValue = None


# Source: protocol 1.3 to 1.8 and 9.1: what endpoints answer.


class PingAnswer(ReceivedModel):
    """The answer of PING and VALIDATE; the oldest SDKs put their error in `message`.

    What does not go with `ok` is an unknown key like every other, of whatever type.
    """

    ok: StrictBool
    error: JsonValue = None
    message: JsonValue = None
    endpoint_id: JsonValue = None


class ErrorWithStack(ReceivedModel):
    """An error of the customer's code."""

    message: str
    name: str | None = None
    stack: str | None = None


class DisplayProperty(ReceivedModel):
    """A label and a text to show beside a run or a task."""

    label: str
    text: str
    url: str | None = None
    image_url: list[str] | None = None


class ReportedTask(ReceivedModel):
    """A task as the platform last sent it; the fields beyond the required ones are the platform's own and not read."""

    id: str
    name: str
    noop: StrictBool
    status: Literal["PENDING", "WAITING", "RUNNING", "COMPLETED", "ERRORED", "CANCELED"]
    idempotency_key: str | None = None
    delay_until: ReceivedTime | None = None
    operation: str | None = None
    parent_id: str | None = None


class YieldData(ReceivedModel):
    """Where a run stopped to stay inside its time; milliseconds."""

    location: str
    time_remaining: float
    time_elapsed: float
    limit: float | None = None


class RunSucceeded(ReceivedModel):
    """The job returned; `output` counts as absent unless it is in `model_fields_set`."""

    status: Literal["SUCCESS"]
    output: JsonValue = None


class RunFailed(ReceivedModel):
    """The job threw."""

    status: Literal["ERROR"]
    error: ErrorWithStack
    task: ReportedTask | None = None


class RunWaitsForTask(ReceivedModel):
    """The run goes on when `task` is done."""

    status: Literal["RESUME_WITH_TASK"]
    task: ReportedTask


class RunRetriesTask(ReceivedModel):
    """The run goes on at `retry_at`, by the app's clock, with another attempt of `task`."""

    status: Literal["RETRY_WITH_TASK"]
    task: ReportedTask
    error: ErrorWithStack
    retry_at: ReceivedTime


class RunCanceled(ReceivedModel):
    """The run was cancelled while `task` was at work."""

    status: Literal["CANCELED"]
    task: ReportedTask


class AuthIssue(ReceivedModel):
    """One integration whose credentials could not be resolved."""

    id: str
    error: str


class RunAuthUnresolved(ReceivedModel):
    """The job's own code could not resolve the credentials of its integrations, by integration key."""

    status: Literal["UNRESOLVED_AUTH_ERROR"]
    issues: dict[str, AuthIssue]


class PayloadIssue(ReceivedModel):
    """One place of the payload that the job's schema refuses."""

    path: list[str | int]
    message: str


class RunPayloadInvalid(ReceivedModel):
    """The event's payload does not fit the job's schema."""

    status: Literal["INVALID_PAYLOAD"]
    errors: list[PayloadIssue]


class RunYielded(ReceivedModel):
    """The job gave way by itself, under `key`."""

    status: Literal["YIELD_EXECUTION"]
    key: str


class RunAutoYielded(YieldData):
    """The SDK gave way because time ran short."""

    status: Literal["AUTO_YIELD_EXECUTION"]


class RunAutoYieldedWithTask(ReceivedModel):
    """The SDK gave way just after a task; `output` is JSON text."""

    status: Literal["AUTO_YIELD_EXECUTION_WITH_COMPLETED_TASK"]
    id: str
    properties: list[DisplayProperty] | None = None
    output: str | None = None
    data: YieldData


class RunAutoYieldedForRateLimit(ReceivedModel):
    """The platform limited the run's rate until `reset`, in milliseconds of Unix time."""

    status: Literal["AUTO_YIELD_RATE_LIMIT"]
    reset: float


_ChildStop: TypeAlias = (
    RunFailed
    | RunWaitsForTask
    | RunRetriesTask
    | RunCanceled
    | RunAuthUnresolved
    | RunPayloadInvalid
    | RunYielded
    | RunAutoYielded
    | RunAutoYieldedWithTask
    | RunAutoYieldedForRateLimit
)


class RunWaitsForParallelTask(ReceivedModel):
    """The run goes on when a task with parallel children is done; each child says why it stopped."""

    status: Literal["RESUME_WITH_PARALLEL_TASK"]
    task: ReportedTask
    child_errors: list[Annotated[_ChildStop, Field(discriminator="status")]]


RunJobResponse: TypeAlias = Annotated[
    RunSucceeded | _ChildStop | RunWaitsForParallelTask, Field(discriminator="status")
]


class PreprocessRunResponse(ReceivedModel):
    """The answer of PREPROCESS_RUN."""

    abort: StrictBool
    properties: list[DisplayProperty] | None = None


class EventRule(ReceivedModel):
    """Which events a trigger matches; `payload` and `context` are filters."""

    event: str | list[str]
    source: str
    payload: dict[str, JsonValue] | None = None
    context: dict[str, JsonValue] | None = None


class RegisterTriggerBody(ReceivedModel):
    """The answer of INITIALIZE_TRIGGER; `source` has the shape of a source in an index and is checked as one there."""

    rule: EventRule
    source: dict[str, JsonValue]
    account_id: str | None = None


class NormalizedResponse(ReceivedModel):
    """The HTTP answer that the third party shall get."""

    status: int
    body: JsonValue = None
    headers: dict[str, str] | None = None


class RawEvent(ReceivedModel):
    """An event that a source's handler made of a request; `payload` counts as absent unless in `model_fields_set`."""

    id: str | None = None
    name: str
    source: str | None = None
    payload: JsonValue = None
    context: JsonValue = None
    timestamp: ReceivedTime | None = None
    payload_type: Literal["JSON", "REQUEST"] | None = None


class HttpSourceResponse(ReceivedModel):
    """The answer of DELIVER_HTTP_SOURCE_REQUEST."""

    response: NormalizedResponse
    events: list[RawEvent]
    metadata: JsonValue = None


_RUN_JOB_RESPONSE: TypeAdapter[Any] = TypeAdapter(RunJobResponse)


def parse_run_job_response(body: bytes) -> RunJobResponse:
    """Return what EXECUTE_JOB answered, by its `status`.

    Raises:
        JsonTextError: the body is not JSON.
        AnswerShapeError: the body is none of the known answers.
    Source: protocol 1.6.
    """
    value = parse_json(body)
    try:
        response: RunJobResponse = _RUN_JOB_RESPONSE.validate_python(value)
    except ValidationError as failure:
        raise AnswerShapeError(describe(failure)) from failure
    return response


Model = TypeVar("Model", bound=ReceivedModel)


def parse_answer(model: type[Model], value: JsonValue) -> Model:
    """Return `value` as `model`.

    Raises:
        AnswerShapeError: the value does not fit.
    """
    try:
        return model.model_validate(value)
    except ValidationError as failure:
        raise AnswerShapeError(describe(failure)) from failure


def describe(failure: ValidationError, *, at_most: int = 5) -> str:
    """Return one line that names the first `at_most` places that are wrong, without the values found there."""
    issues = failure.errors(include_url=False, include_context=False, include_input=False)
    described = [
        f'{_SENTENCES.get(issue["type"], issue["msg"])} at "{".".join(map(str, issue["loc"])) or "top level"}"'
        for issue in issues[:at_most]
    ]
    more = [f"and {len(issues) - at_most} more"] if len(issues) > at_most else []
    return "; ".join([*described, *more])


# Where the validator's own sentence would name a class of ours.
_SENTENCES: Final = {"model_type": "Input should be an object", "model_attributes_type": "Input should be an object"}
