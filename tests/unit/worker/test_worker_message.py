"""The message is read strictly, whatever the bytes."""

from __future__ import annotations

import pickle
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.endpoints.queue import message as written
from services.worker import message as read
from services.worker.message import MAX_MESSAGE_BYTES, NewerMessageError, UnreadableMessageError, read_message

LANE = st.text(min_size=1, max_size=200)


def _job(**changes: Any) -> bytes:
    job: dict[str, Any] = {"t": None, "f": "run_queue_jobs", "a": [1, "default", ["lane"]], "k": {}, "et": 1}
    packed: bytes = msgpack.packb({**job, **changes})
    return packed


@given(queue=st.text(max_size=20), lanes=st.lists(LANE, min_size=1, max_size=50), time_ms=st.integers(0, 2**53))
def test_what_the_endpoints_service_writes_the_worker_reads(queue: str, lanes: list[str], time_ms: int) -> None:
    body = written.write_message(queue=queue, lanes=lanes, enqueue_time_ms=time_ms)
    job = read_message(body)
    assert job["a"] == [1, queue, lanes]
    assert job["et"] == time_ms


def test_both_sides_agree_on_names_and_limits() -> None:
    for name in ("MESSAGE_VERSION", "FUNCTION_NAME", "MAX_LANES", "MAX_LANE_CHARACTERS", "MAX_MESSAGE_BYTES"):
        assert getattr(written, name) == getattr(read, name)
    assert written.queue_key("events") == read.queue_key("events")


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with suppress(UnreadableMessageError):
        read_message(body)


JSON_LIKE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["t", "f", "a", "k", "et", "x"]), JSON_LIKE))
def test_any_packed_value_is_read_or_refused(changes: dict[str, Any]) -> None:
    with suppress(UnreadableMessageError):
        job = read_message(_job(**changes))
        version, queue, lanes = job["a"]
        assert version == 1
        assert isinstance(queue, str)
        assert 1 <= len(lanes) <= 50


@pytest.mark.parametrize(
    "body",
    [
        b"",
        _job() + b"x",
        _job()[:-1],
        pickle.dumps({"t": None, "f": "run_queue_jobs", "a": [1, "default", ["lane"]], "k": {}, "et": 1}),
        msgpack.packb([1, 2]),
        msgpack.packb({1: 2}),
        _job(extra=1),
        _job(f="other"),
        _job(k={"queue": "default"}),
        _job(t=1),
        _job(et="now"),
        _job(et=True),
        _job(a=[]),
        _job(a=None),
        _job(a=[True, "default", ["lane"]]),
        _job(a=[0, "default", ["lane"]]),
        _job(a=["1", "default", ["lane"]]),
        _job(a=[1, "default"]),
        _job(a=[1, "default", ["lane"], 1]),
        _job(a=[1, 2, ["lane"]]),
        _job(a=[1, "default", []]),
        _job(a=[1, "default", "lane"]),
        _job(a=[1, "default", [""]]),
        _job(a=[1, "default", [1]]),
        _job(a=[1, "default", ["x" * 201]]),
        _job(a=[1, "default", ["lane"] * 51]),
        _job(a=[1, b"default", ["lane"]]),
        _job(a=[1, "default", [msgpack.ExtType(1, b"x")]]),
        _job(a=[1, "x" * MAX_MESSAGE_BYTES, ["lane"]]),
        b"\x91" * 5_000,
    ],
)
def test_what_is_no_message_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableMessageError) as refused:
        read_message(body)
    assert not isinstance(refused.value, NewerMessageError)


@pytest.mark.parametrize("arguments", [[2], [2, "default", ["lane"]], [7, {"queues": []}]])
def test_newer_version_is_told_apart_whatever_follows_it(arguments: list[Any]) -> None:
    with pytest.raises(NewerMessageError):
        read_message(_job(a=arguments))


def test_longest_message_is_below_the_limit_of_bytes() -> None:
    body = written.write_message(queue="maintenance", lanes=["\U0001f514" * 200] * 50, enqueue_time_ms=2**53)
    assert len(body) <= MAX_MESSAGE_BYTES


def test_message_above_the_limit_of_bytes_is_not_written() -> None:
    with pytest.raises(Exception, match="unable to serialize"):
        written.write_message(queue="x" * MAX_MESSAGE_BYTES, lanes=["lane"], enqueue_time_ms=1)
