"""The numbers of the services that are no settings, each with the reason, and those that are a setting's default."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, Final

from tools.number_texts import bytes_text, count_text, duration_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Fixed:
    """What a number bounds, where it stands (`module:NAME` below `services`; all of these are equal), and why.

    A number that stands in SQL has no names; it is `shown` instead.
    """

    what: str
    names: tuple[str, ...]
    why: str
    shown: str = ""


def _fixed(what: str, *names_and_why: str) -> Fixed:
    *names, why = names_and_why
    return Fixed(what, tuple(names), why)


_PROMISE: Final = "the contract promises it, so that callers may rely on it with every server"
_STORED: Final = "stored rows and the schema's constraints have it"
_PROTOCOL: Final = "the endpoint protocol has it"
_BOTH: Final = "servers and workers of different versions must agree"
_READER: Final = "more helps no reader, and rows and logs stay bounded"
_MEMORY: Final = "bounds the memory of one server, whoever calls"

GROUPS: Final[Mapping[str, Sequence[Fixed]]] = {
    "What callers see": (
        _fixed("one JSON text: a payload, a context, a filter", "endpoints.rpc.validate:MAX_JSON_BYTES", _PROMISE),
        _fixed("levels of JSON", "endpoints.domain.json_text:MAX_DEPTH", _PROMISE),
        _fixed("digits of an integer in JSON", "endpoints.domain.json_text:MAX_INTEGER_DIGITS", "PostgreSQL keeps it"),
        _fixed(
            "a number in JSON, without its exponent",
            "endpoints.domain.json_text:MAX_EXPANDED_CHARACTERS",
            "PostgreSQL writes it out, so that a short text could become a large one",
        ),
        _fixed("a page when none is named", "endpoints.domain.page:DEFAULT_PAGE_SIZE", _PROMISE),
        _fixed("the largest page", "endpoints.domain.page:MAX_PAGE_SIZE", _PROMISE),
        _fixed(
            "what customers wrote of one page, unless one item has more",
            "endpoints.domain.page:MAX_PAGE_BYTES",
            "gRPC clients take 4 MiB by default",
        ),
        _fixed("how long a page token is good", "endpoints.operations.page_tokens:LIFETIME", _PROMISE),
        Fixed("how long a request id is remembered", (), _PROMISE, shown="1 d"),
        _fixed("events of one SendEvents", "endpoints.rpc.events:MAX_EVENTS", _PROMISE),
        _fixed("events of one ReplayEvents", "endpoints.operations.replays:MAX_REPLAYED", _PROMISE),
        _fixed("… and bytes of a time range", "endpoints.operations.replays:MAX_BYTES_COPIED_AT_ONCE", _PROMISE),
        _fixed("queue jobs of one RetryQueueJobs", "endpoints.operations.queue_jobs:MAX_RETRIED", _PROMISE),
        _fixed("… when none is named", "endpoints.rpc.queue:_DEFAULT_RETRIED", _PROMISE),
        _fixed(
            "how far ahead a time may lie",
            "endpoints.rpc.endpoints:MAX_TIME_AHEAD",
            "endpoints.rpc.new_events:MAX_TIME_AHEAD",
            _PROMISE,
        ),
        _fixed("an event's id, name and source", "endpoints.rpc.new_events:MAX_TEXT_CHARACTERS", _STORED),
        _fixed(
            "keys of an event's payload and context",
            "endpoints.rpc.new_events:MAX_KEYS",
            "a filter looks at each of them",
        ),
        _fixed("one such key", "endpoints.rpc.new_events:MAX_KEY_CHARACTERS", "the same"),
        _fixed("levels of a filter", "endpoints.domain.filter_shape:MAX_FILTER_DEPTH", "the same as of JSON"),
        _fixed("parts of a filter", "endpoints.domain.filter_shape:MAX_FILTER_NODES", "every event is put to it"),
        _fixed("a name", "endpoints.rpc.validate:MAX_NAME_CHARACTERS", _STORED),
        _fixed("a dispatcher's name", "endpoints.rpc.convert_dispatchers:MAX_NAME_CHARACTERS", _STORED),
        _fixed("a reason of a caller", "endpoints.rpc.validate:MAX_REASON_CHARACTERS", _STORED),
        _fixed("the reason of a pause", "endpoints.domain.operator_decisions:MAX_PAUSE_REASON_CHARACTERS", _READER),
        _fixed("a list's filter", "endpoints.rpc.validate:MAX_FILTER_CHARACTERS", "no stored text is longer"),
        _fixed("a slug", "endpoints.domain.identifiers:MAX_SLUG_LENGTH", _STORED),
        _fixed("a url", "endpoints.domain.endpoint_url:MAX_URL_CHARACTERS", _STORED),
        _fixed("a url's host", "endpoints.domain.endpoint_url:MAX_HOST_CHARACTERS", "RFC 1035"),
        _fixed("one label of it", "endpoints.domain.endpoint_url:MAX_LABEL_CHARACTERS", "RFC 1035"),
        _fixed("an indexing hook identifier", "endpoints.domain.identifiers:HOOK_IDENTIFIER_LENGTH", _PROTOCOL),
        _fixed("the body of an indexing hook", "endpoints.http.server:_MAX_HOOK_BYTES", "as large as a payload"),
        _fixed(
            "how long the body of a hook or of a form may take",
            "endpoints.http.bodies:BODY_WITHIN",
            "who sends it holds one of its tenant's open calls",
        ),
        _fixed(
            "how long a server that stops waits for hooks and pages that were begun",
            "endpoints.http.server:_END_WITHIN",
            "those that come whole end within it",
        ),
        _fixed("violations in one answer", "endpoints.rpc.errors:MAX_VIOLATIONS", "they travel in trailing metadata"),
        _fixed("the message of a status", "endpoints.rpc.errors:MAX_MESSAGE_CHARACTERS", "the same"),
        _fixed("a status in all", "endpoints.rpc.errors:MAX_STATUS_BYTES", "clients take 8 KiB of metadata by default"),
        _fixed(
            "how much before a deadline its own status leaves",
            "endpoints.rpc.deadlines:MARGIN",
            "it has to arrive before the caller hangs up",
        ),
        _fixed(
            "the same of a ping's reason", "endpoints.operations.pings:_MARGIN", "the same, and it is stored before"
        ),
        _fixed(
            "how long a stopping server says so at most before it closes its connections",
            "endpoints.rpc.draining:NOTICE",
            "callers on other connections have moved by then",
        ),
        _fixed("… once nobody calls any more", "endpoints.rpc.draining:QUIET", "the same"),
        _fixed(
            "time for streams to end, once every call is answered",
            "endpoints.rpc.draining:LAST_WORDS",
            "a caller that reads nothing holds up nobody",
        ),
        _fixed(
            "how long watches wait when nobody wakes them",
            "endpoints.operations.watches:_POLL",
            "what they show is at most so old, and a caller without right goes on no longer",
        ),
        _fixed(
            "how often one look finds out for all watches which indexes have changed, at most",
            "endpoints.operations.index_revisions:_REST",
            "nobody sees more changes than that",
        ),
        _fixed(
            "how many leases long the end of a call is stored again and again while the database is away",
            "endpoints.operations.calls:_LEASES_TO_STORE_AN_END",
            "by then another server has the call",
        ),
        _fixed("the overlap of a rotation when none is named", "endpoints.rpc.tenancy:_DEFAULT_OVERLAP", _PROMISE),
        _fixed("the longest overlap", "endpoints.rpc.tenancy:_MAX_OVERLAP", "a key that leaked must end"),
        _fixed(
            "how long a credential that was found is trusted",
            "endpoints.operations.authentication:CACHE_LIFETIME",
            "a revocation holds everywhere within 5 s",
        ),
        _fixed("a session of the console", "endpoints.http.console.sessions:SIGNED_IN_FOR", "one working day"),
        _fixed(
            "a form for signing in", "endpoints.http.console.sessions:SIGN_IN_WITHIN", "longer than anyone reads it"
        ),
        _fixed("rows on a page of the console", "endpoints.http.console.visits:PAGE_SIZE", "as a list of the API"),
        _fixed(
            "dead letters one click of the console retries",
            "endpoints.http.console.queue_pages:MAX_RETRIED_AT_ONCE",
            "the answer comes within the time a browser waits; the rest takes another click",
        ),
        _fixed("what the console's charts show", "endpoints.http.console.history:WINDOW", _MEMORY),
    ),
    "Calls to endpoints": (
        _fixed("seconds of an interval, at least", "endpoints.domain.offer:MIN_INTERVAL_SECONDS", _PROTOCOL),
        _fixed("seconds of an interval, at most", "endpoints.domain.offer:MAX_INTERVAL_SECONDS", _PROTOCOL),
        _fixed("a job's concurrency limit", "endpoints.domain.offer:MAX_CONCURRENCY", _STORED),
        _fixed("the id of a trigger or an integration", "endpoints.domain.offer:MAX_SLUG_CHARACTERS", _STORED),
        _fixed(
            "the key of a source, and the id of a job, which may be named after one",
            "endpoints.domain.offer:MAX_SOURCE_KEY_CHARACTERS",
            "endpoints.domain.offer:MAX_JOB_SLUG_CHARACTERS",
            _STORED,
        ),
        _fixed("integrations of one job", "endpoints.domain.offer:MAX_INTEGRATIONS", _MEMORY),
        _fixed("one option of a source", "endpoints.domain.offer:MAX_OPTION_BYTES", _STORED),
        _fixed(
            "an event's name or source in a rule", "endpoints.domain.offer:MAX_MATCHED_CHARACTERS", "no event has more"
        ),
        _fixed("event names of one trigger", "endpoints.domain.offer:MAX_EVENT_NAMES", "each becomes a dispatcher"),
        _fixed(
            "the longest `Retry-After` that is obeyed",
            "endpoints.delivery.client:MAX_RETRY_AFTER",
            "an endpoint must not silence itself for longer than a SUSPENDED one is left alone",
        ),
        _fixed("header lines of an answer", "endpoints.delivery.transport:MAX_HEADER_LINES", _MEMORY),
        _fixed("one header line", "endpoints.delivery.transport:MAX_HEADER_LINE_BYTES", _MEMORY),
        _fixed("what is read of an error's body", "endpoints.delivery.transport:MAX_ERROR_BODY_BYTES", _READER),
        _fixed(
            "the largest answer, per JSON value in it",
            "endpoints.delivery.answer_parser:BYTES_PER_VALUE",
            "what an answer takes as values is bounded as its text is",
        ),
        _fixed("addresses of a host that are judged", "endpoints.delivery.guard:MAX_ADDRESSES", "all must be allowed"),
        _fixed(
            "an endpoint's text in an answer", "endpoints.domain.endpoint_calls:MAX_REMOTE_TEXT_CHARACTERS", _READER
        ),
        _fixed("the reason of an endpoint's state", "endpoints.domain.endpoint_health:MAX_REASON_LENGTH", _READER),
    ),
    "The ledger": (
        _fixed(
            "lanes of a message and of a call back",
            "endpoints.queue.message:MAX_LANES",
            "endpoints.rpc.worker:MAX_LANES",
            "worker.message:MAX_LANES",
            _BOTH,
        ),
        _fixed(
            "a lane's name",
            "endpoints.queue.message:MAX_LANE_CHARACTERS",
            "endpoints.rpc.worker:MAX_LANE_CHARACTERS",
            "endpoints.domain.operator_decisions:MAX_LANE_CHARACTERS",
            "worker.message:MAX_LANE_CHARACTERS",
            _BOTH,
        ),
        _fixed(
            "one message",
            "endpoints.queue.message:MAX_MESSAGE_BYTES",
            "worker.message:MAX_MESSAGE_BYTES",
            _BOTH,
        ),
        _fixed(
            "the message's version",
            "endpoints.queue.message:MESSAGE_VERSION",
            "worker.message:MESSAGE_VERSION",
            _BOTH,
        ),
        _fixed(
            "how long Redis keeps a message", "endpoints.queue.publisher:MESSAGE_LIFE", "it is rung again long before"
        ),
        _fixed("traces that the answer of a call back names", "endpoints.rpc.worker:MAX_TRACEPARENTS", _READER),
        _fixed(
            "messages a worker sets aside per queue",
            "worker.consumer:MAX_SET_ASIDE",
            "they are counted; the newest are enough to see why",
        ),
        _fixed(
            "lanes of an environment for its events",
            "endpoints.domain.lanes:_EVENT_LANES",
            "stored names of lanes have it",
        ),
        _fixed("the message of a failed attempt", "endpoints.domain.attempt:MAX_MESSAGE_LENGTH", _READER),
        _fixed("the reason of an invocation", "endpoints.domain.invocation:MAX_REASON_CHARACTERS", _READER),
        _fixed("what an explanation shows of a value", "endpoints.domain.filter_failure:MAX_SHOWN_CHARACTERS", _READER),
        _fixed("what it shows of a path", "endpoints.domain.filter_failure:MAX_PATH_CHARACTERS", _READER),
        _fixed(
            "growths of a delay",
            "endpoints.domain.retry:MAX_GROWTHS",
            "the cap is reached before; the power stays a number",
        ),
        _fixed(
            "queue jobs that are counted one by one", "endpoints.domain.queue_stats:MAX_COUNTED", "stats stay cheap"
        ),
        _fixed("… of those that are done", "endpoints.domain.queue_stats:MAX_COMPLETED_COUNTED", "stats stay cheap"),
        _fixed("the time that rates are about", "endpoints.domain.queue_stats:RATE_WINDOW", "the same for all readers"),
        _fixed("args of one transaction", "endpoints.store.ledger:MAX_BYTES_TOGETHER", _MEMORY),
        _fixed("filters held together", "endpoints.operations.deliver_event:MAX_FILTER_BYTES_AT_ONCE", _MEMORY),
        _fixed(
            "invocations of one transaction",
            "endpoints.operations.deliver_event:MAX_INVOCATIONS_AT_ONCE",
            "a transaction ends within its timeout; the rest follows at once",
        ),
        _fixed("filters of one transaction", "endpoints.operations.deliver_event:MAX_TESTS_AT_ONCE", "the same"),
        _fixed("runs of one transaction", "endpoints.operations.invoke_dispatcher:MAX_RUNS_AT_ONCE", "the same"),
        _fixed("probes asked for at once", "endpoints.operations.endpoint_upkeep:MAX_PROBES_AT_ONCE", "the same"),
        _fixed("scheduled indexes at once", "endpoints.operations.endpoint_upkeep:MAX_INDEXES_AT_ONCE", "the same"),
        _fixed(
            "how long until an endpoint is asked again for an index that it is owed",
            "endpoints.operations.endpoint_upkeep:OWED_AGAIN_IN",
            "it answered badly just now",
        ),
        _fixed(
            "how long until an endpoint is asked at the url that it got while it was asked",
            "endpoints.operations.index_endpoint:MOVED_PAUSE",
            "two instances may each give it theirs, again and again",
        ),
        _fixed(
            "new ids in a row",
            "endpoints.domain.identifiers:MAX_CONSECUTIVE_IDS",
            "a UUID of version 7 leaves 12 bits for them",
        ),
        _fixed(
            "callers at once that make ledger work wait",
            "endpoints.domain.callers:MANY",
            "measured: callers keep their latency, and the ledger its throughput",
        ),
        _fixed("how long it waits", "endpoints.domain.callers:PAUSE", "the same"),
        _fixed("open lanes that make turns matter", "endpoints.domain.turns:MANY_OPEN", "the same"),
        _fixed(
            "lanes that are rung together",
            "endpoints.domain.turns:MOST_IN_A_ROUND",
            "measured: workers begin with them while the next are rung",
        ),
    ),
    "Inside": (
        _fixed("a key for encryption or hashes", "endpoints.secrets.keys:KEY_BYTES", "AES-256 and HMAC-SHA-256"),
        _fixed("the hash of a content", "endpoints.domain.json_text:HASH_BYTES", _STORED),
        _fixed("credentials that are trusted from before", "endpoints.operations.authentication:MAX_CACHED", _MEMORY),
        _fixed("how often their last use is written", "endpoints.operations.credential_uses:WRITE_EVERY", "one write"),
        _fixed("… for how many at most", "endpoints.operations.credential_uses:MAX_NOTED", _MEMORY),
        _fixed(
            "how long an environment is known from before",
            "endpoints.store.known_environments:LIFETIME",
            "as credentials",
        ),
        _fixed("how many are", "endpoints.store.known_environments:MOST", _MEMORY),
        _fixed(
            "how full memory is when calls are refused", "endpoints.rpc.memory:FULL", "the rest is for what has begun"
        ),
        _fixed("how often that is looked at", "endpoints.rpc.memory:LOOK_EVERY", "a read of /proc is no cost"),
        _fixed("how often free memory is given back", "endpoints.rpc.memory:GIVE_BACK_EVERY", "that stops everything"),
        _fixed("texts of filters kept ready", "endpoints.domain.filter:MAX_CACHED_CHARACTERS", _MEMORY),
        _fixed(
            "how long a Redis may take to connect",
            "endpoints.queue.connection:CONNECT_TIMEOUT",
            "worker.redis_connection:CONNECT_TIMEOUT",
            "it stands beside its users, and the ledger rings again",
        ),
        _fixed(
            "how long it may take to answer",
            "endpoints.queue.connection:READ_TIMEOUT",
            "worker.redis_connection:READ_TIMEOUT",
            "the same",
        ),
        _fixed("how often its eviction policy is looked at", "endpoints.queue.eviction:LOOK_EVERY", "as probes"),
        _fixed(
            "the shortest pause before Redis is tried again",
            "endpoints.queue.wake_ups:SHORTEST_BACKOFF",
            "worker.backoff:SHORTEST_BACKOFF",
            "back to work at once after a restart",
        ),
        _fixed(
            "the longest such pause",
            "endpoints.queue.wake_ups:LONGEST_BACKOFF",
            "worker.backoff:LONGEST_BACKOFF",
            "back to work within 15 s of anything",
        ),
        _fixed("how long wake-ups are put together", "endpoints.queue.wake_ups:QUIET", "one message for many commits"),
        _fixed("how often silence is questioned", "endpoints.queue.wake_ups:IDLE_CHECK", "a dead connection is found"),
        _fixed("one wait of a worker for a message", "worker.app:POP_TIMEOUT", "a stopping worker waits for no more"),
        _fixed("how far a call may outlast its deadline", "worker.app:CALL_OVERRUN", "the status has to arrive"),
        _fixed("how often a worker looks for the service", "worker.client:PROBE_PERIOD", "back to work at once"),
        _fixed("how long it waits to be told whether it is welcome", "worker.client:PROBE_TIMEOUT", "it asks again"),
        _fixed("how long its connection may take to close", "worker.client:CLOSE_GRACE", "nothing is held any more"),
        _fixed("how often a worker's health is looked at", "worker.health:LOOK_EVERY", "probes come every few seconds"),
        _fixed(
            "how long a stopping worker says so by health", "worker.health:TOLD_WITHIN", "what was said has to leave"
        ),
        _fixed("the largest count of `worker.queues`", "worker.settings:MAX_CONCURRENCY", "sockets of one process"),
        _fixed("the largest port", "configuration.urls:MAX_PORT", "TCP"),
        _fixed(
            "the exit code of a crash point",
            "endpoints.crash_points:EXIT_STATUS",
            "worker.crash_points:EXIT_STATUS",
            "tests look for it",
        ),
        _fixed("the width of a chart, in pixels", "endpoints.http.console.charts:WIDTH", "the page is laid out for it"),
        _fixed("its height, in pixels", "endpoints.http.console.charts:HEIGHT", "the same"),
    ),
}
"""Every public number of the services that is no setting, and those private ones that people ask about."""

DEFAULTS: Final[Mapping[str, str]] = {
    "endpoints.delivery.client:DEFAULT_TIMEOUT": "endpoint_timeout_seconds",
    "endpoints.delivery.client:DEFAULT_MAX_ANSWER_BYTES": "max_answer_bytes",
    "endpoints.delivery.client:DEFAULT_MAX_CONNECTIONS": "api_client_max_connections",
    "endpoints.domain.endpoint_health:REINDEX_EVERY": "reindex_every_seconds",
    "endpoints.domain.index_answer:DEFAULT_MAX_ITEMS": "max_index_items",
    "endpoints.operations.pings:DEFAULT_TRIES": "api_client_max_retries",
    "endpoints.operations.pings:DEFAULT_PAUSE": "api_client_retry_backoff_seconds",
    "endpoints.operations.replays:EVENTS_ARE_KEPT": "retention_events_seconds",
    "endpoints.queue.publisher:DEFAULT_WINDOW": "ledger_max_waiting_messages",
    "endpoints.rpc.server:MAX_REQUEST_BYTES": "rpc_max_request_bytes",
    "endpoints.rpc.server:MAX_METADATA_BYTES": "rpc_max_metadata_bytes",
}
"""The numbers that are the default of a setting of the endpoints service, with its field."""


def value_of(name: str) -> float | timedelta:
    """Return the value of `module:NAME` below `services`."""
    module, _, constant = name.partition(":")
    value = getattr(import_module(f"services.{module}"), constant)
    if not isinstance(value, int | float | timedelta):
        raise TypeError(f"{name} is no number")
    return value


def render_fixed_numbers() -> str:
    """Return the table of what is no setting."""
    lines = ["| what | number | why it is no setting |", "|---|---|---|"]
    for title, rows in GROUPS.items():
        lines.append(f"| **{title}** | | |")
        lines += [f"| {row.what} | {_shown(row)} | {row.why} |" for row in rows]
    return "\n".join(lines) + "\n"


def _shown(row: Fixed) -> str:
    if not row.names:
        return row.shown
    name = row.names[0]
    value = value_of(name)
    if isinstance(value, timedelta):
        return duration_text(value.total_seconds())
    if name.endswith("_BYTES"):
        return bytes_text(int(value))
    return f"{count_text(value)} characters" if name.endswith(("_CHARACTERS", "_LENGTH")) else count_text(value)
