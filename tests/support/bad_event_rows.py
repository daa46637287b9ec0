"""The rows about events, their payloads and who wants them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from kongflow.v1 import dispatcher_service_pb2 as dispatchers
from kongflow.v1 import event_service_pb2 as messages
from kongflow.v1.dispatcher_pb2 import Dispatcher

from tests.support.bad_inputs import ABSENT, YEAR_SECONDS, Row
from tests.support.events import new_event, send, send_many

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.bad_inputs import Ground


def _event(number: int, title: str, field: str, /, **fields: Any) -> Row:
    return Row(number, title, lambda ground: send(ground.stage.developer, **fields), fields=(f"event.{field}",))


def _payload(number: int, name: str, text: str) -> Row:
    return _event(number, name, "payload_json", payload_json=text)


def _batch(name: str, events: list[messages.NewEvent], field: str = "events") -> Row:
    return Row(53, name, lambda ground: send_many(ground.stage.developer, events), fields=(field,))


def _filter(name: str, text: str) -> Row:
    async def call(ground: Ground) -> Any:
        request = dispatchers.CreateDispatcherRequest(
            environment_id=ground.stage.ours.development.id,
            dispatcher=Dispatcher(event_names=["a"], job_version_id=str(uuid4()), payload_filter_json=text),
        )
        return await ground.stage.writer.dispatchers.CreateDispatcher(request)

    return Row(54, name, call, fields=("dispatcher.payload_filter_json",))


def _ahead(field: str, seconds: int) -> Callable[[Ground], Awaitable[Any]]:
    async def call(ground: Ground) -> Any:
        now = Timestamp()
        now.GetCurrentTime()
        fields: dict[str, Any] = {field: Timestamp(seconds=now.seconds + seconds)}
        return await send(ground.stage.developer, **fields)

    return call


async def _cancel_absent(ground: Ground) -> Any:
    return await ground.stage.developer.events.CancelEvent(messages.CancelEventRequest(id=str(uuid4())))


ROWS: Final = (
    _event(1, "empty name", "name", name=""),
    _event(32, "257 characters", "event_id", event_id="x" * 257),
    _event(32, "control character", "event_id", event_id="\x7f"),
    _payload(37, "no JSON", "no json"),
    _payload(37, "empty", ""),
    _payload(37, "byte order mark", "\ufeff{}"),
    _payload(37, "two documents", "{}{}"),
    _payload(37, "trailing comma", '{"a":1,}'),
    *(
        _event(38, f"context {text}", "context_json", context_json=text)
        for text in ("null", "1", '"text"', "[]", "true")
    ),
    _payload(39, "NUL in a value", r'{"a":"\u0000"}'),
    _payload(39, "NUL in a key", r'{"\u0000":1}'),
    _payload(41, "NaN", '{"a":NaN}'),
    _payload(41, "Infinity", '{"a":Infinity}'),
    _payload(41, "1e400000", '{"a":1e400000}'),
    _payload(41, "5,000 digits", '{"a":' + "9" * 5000 + "}"),
    *(_payload(42, f"depth {depth}", "[" * depth + "]" * depth) for depth in (65, 20_000, 100_000)),
    _payload(45, "a key of 10 kB", json.dumps({"k" * 10_000: 1})),
    Row(
        46,
        "512 KiB + 1",
        lambda ground: send(ground.stage.developer, payload_json='"' + "x" * (512 * 1024 - 1) + '"'),
        reason="PAYLOAD_TOO_LARGE",
        fields=("event.payload_json",),
    ),
    _payload(48, "10,001 keys", json.dumps({f"k{number}": number for number in range(10_001)})),
    _event(49, "year 10000", "deliver_time", deliver_time=Timestamp(seconds=253_402_300_800)),
    _event(49, "year 0", "deliver_time", deliver_time=Timestamp(seconds=-62_135_596_801)),
    _event(49, "the largest number", "deliver_time", deliver_time=Timestamp(seconds=2**63 - 1)),
    _event(49, "negative nanoseconds", "deliver_time", deliver_time=Timestamp(nanos=-1)),
    Row(50, "over a year ahead", _ahead("deliver_time", YEAR_SECONDS + 3600), fields=("event.deliver_time",)),
    _event(52, "negative", "deliver_delay", deliver_delay=Duration(seconds=-1)),
    _event(52, "over a year", "deliver_delay", deliver_delay=Duration(seconds=YEAR_SECONDS + 1)),
    _batch("none", []),
    _batch("1,001", [new_event()] * 1001),
    _batch(
        "one bad of 100",
        [new_event()] * 73 + [new_event(payload_json="{")] + [new_event()] * 26,
        "events[73].payload_json",
    ),
    _filter("unknown operator", '{"a": [{"$nope": 1}]}'),
    _filter("wrong operand", '{"a": [{"$gt": "1"}]}'),
    _filter("empty list", '{"a": []}'),
    _filter("1,000 values", '{"a": [' + ", ".join(["1"] * 1_000) + "]}"),
    _filter("catastrophic regular expression", '{"a": [{"$regex": "(a+)+$"}]}'),
    Row(58, "absent", _cancel_absent, ABSENT, "NOT_FOUND"),
)
