"""The texts of the protocol, what is worth repeating, and the shapes on the wire."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from pydantic import ValidationError

from services.endpoints.delivery.client import parse_retry_after
from services.endpoints.domain.endpoint_calls import (
    CallFailure,
    CallSigning,
    EndpointAddress,
    EndpointCallError,
    clean_remote_text,
    is_worth_repeating,
    no_response_text,
    schema_text,
    status_text,
)
from services.endpoints.domain.endpoint_wire import (
    AnswerShapeError,
    CachedTask,
    EnvironmentReference,
    JobReference,
    NamedMetadata,
    OrganizationReference,
    RegisterTriggerBody,
    RunAutoYielded,
    RunFailed,
    RunJobBody,
    RunReference,
    RunRetriesTask,
    RunSucceeded,
    RunWaitsForParallelTask,
    SentEvent,
    parse_answer,
    parse_run_job_response,
)
from services.endpoints.domain.json_text import JsonTextError

NOW = datetime(2026, 5, 4, 3, 2, 1, 987654, tzinfo=UTC)
TASK = {"id": "t1", "name": "Pack", "noop": False, "status": "WAITING", "attempts": 1, "newKey": [1]}


def run_body(**optional: object) -> RunJobBody:
    return RunJobBody.model_validate(
        {
            "event": SentEvent(id="e", name="n", payload=None, timestamp=NOW),
            "job": JobReference(id="j", version="1.0.0"),
            "run": RunReference(id="r", is_test=True, started_at=NOW),
            "environment": EnvironmentReference(id="v", slug="dev", type="DEVELOPMENT"),
            "organization": OrganizationReference(id="o", title="O", slug="o"),
            **optional,
        }
    )


def test_texts_are_the_protocols() -> None:
    assert no_response_text("http://a/") == "Could not connect to endpoint http://a/"
    assert status_text("http://a/", 503) == "Could not connect to endpoint http://a/. Status code: 503"
    assert schema_text("http://a/", "no") == "Endpoint http://a/ responded with error: no"


def test_key_is_not_shown() -> None:
    shown = repr(EndpointAddress("http://a/", "tr_dev_Secret", "a", CallSigning("call-1", ("whsec_c2VjcmV0",))))
    assert "tr_dev_Secret" not in shown
    assert "whsec_" not in shown


def test_remote_text_is_cut_cleaned_and_keeps_no_key() -> None:
    assert (
        clean_remote_text("bad\x00 key\x1b[2J\r\n\u202etr_dev_Secret\ud800!", secrets=["tr_dev_Secret"])
        == "bad key[2J  [key]!"
    )
    assert len(clean_remote_text("x" * 10_000)) == 500


@pytest.mark.parametrize("number", [300, 302, 308, 400, 401, 403, 404, 405, 410, 422])
def test_status_that_stays_is_not_repeated(number: int) -> None:
    assert not is_worth_repeating(CallFailure.STATUS, number)


@pytest.mark.parametrize("number", [408, 425, 429, 500, 502, 503, 504])
def test_status_that_may_pass_is_repeated(number: int) -> None:
    assert is_worth_repeating(CallFailure.STATUS, number)


@pytest.mark.parametrize("failure", list(CallFailure))
def test_every_failure_is_repeated_or_not(failure: CallFailure) -> None:
    lasting = {"ADDRESS_NOT_ALLOWED", "TOO_LARGE", "UNAUTHORIZED", "BAD_SCHEMA", "REPORTED"}
    assert is_worth_repeating(failure, None) is (failure.value not in lasting)


def test_retry_after_counts_only_where_repeating_does() -> None:
    minute = timedelta(minutes=1)
    assert EndpointCallError("m", failure=CallFailure.STATUS, http_status=503, retry_after=minute).retry_after == minute
    assert EndpointCallError("m", failure=CallFailure.STATUS, http_status=404, retry_after=minute).retry_after is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("0", 0), (" 120 ", 120), ("3600", 3600), ("86400", 3600), ("9" * 400, 3600)),
        *(("Mon, 04 May 2026 03:03:01 GMT", 59.012346), ("Mon, 04 May 2026 03:00:00 GMT", 0)),
        *(
            ("Tue, 05 May 2026 03:00:00 GMT", 3600),
            ("soon", None),
            ("-5", None),
            ("", None),
            ("1.5", None),
            ("²", None),
            ("Thu, 01 Jan 99999999999 00:00:00 GMT", None),
            ("Thu, 01 Jan 2026 00:00:00 +99999999999999", None),
        ),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_at_most_an_hour(text: str, seconds: float | None) -> None:
    expected = None if seconds is None else timedelta(seconds=seconds)
    assert parse_retry_after(text, now=NOW) == expected


def test_absent_optionals_are_left_out_and_never_null() -> None:
    wire = run_body(account=None, tasks=None).to_wire()
    assert sorted(wire) == ["environment", "event", "job", "organization", "run"]
    assert wire["event"] == {"id": "e", "name": "n", "payload": None, "timestamp": "2026-05-04T03:02:01.987Z"}
    assert wire["run"] == {"id": "r", "isTest": True, "startedAt": "2026-05-04T03:02:01.987Z", "isRetry": False}


def test_given_optionals_are_sent_in_camel_case() -> None:
    wire = run_body(
        account=NamedMetadata(id="a", metadata={"plan": None}),
        tasks=[CachedTask(id="k", idempotency_key="k", output=None), CachedTask(id="l", idempotency_key="l")],
        run_chunk_execution_limit=9650,
        yielded_executions=[],
    ).to_wire()
    assert wire["account"] == {"id": "a", "metadata": {"plan": None}}
    assert wire["tasks"] == [
        {"id": "k", "idempotencyKey": "k", "status": "COMPLETED", "noop": False, "output": None},
        {"id": "l", "idempotencyKey": "l", "status": "COMPLETED", "noop": False},
    ]
    assert (wire["runChunkExecutionLimit"], wire["yieldedExecutions"]) == (9650, [])


def test_times_are_sent_in_utc_and_need_a_zone() -> None:
    east = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    assert SentEvent(id="e", name="n", payload=1, timestamp=east).to_wire()["timestamp"] == "2025-12-31T23:00:00.000Z"
    with pytest.raises(ValidationError):
        SentEvent(id="e", name="n", payload=1, timestamp=datetime(2026, 1, 1))  # noqa: DTZ001 - the point of the test


def test_large_integers_of_the_customer_keep_their_digits() -> None:
    event = SentEvent(id="e", name="n", payload={"n": 9007199254740993}, timestamp=NOW)
    assert event.to_wire()["payload"] == {"n": 9007199254740993}


def test_run_answers_are_told_apart_by_status() -> None:
    succeeded = parse_run_job_response(b'{"status": "SUCCESS"}')
    assert isinstance(succeeded, RunSucceeded)
    assert "output" not in succeeded.model_fields_set
    failed = parse_run_job_response(b'{"status": "ERROR", "error": {"message": "no", "extra": 1}}')
    assert isinstance(failed, RunFailed)
    retried = parse_run_job_response(
        json.dumps(
            {"status": "RETRY_WITH_TASK", "task": TASK, "error": {"message": "m"}, "retryAt": "2026-05-04T03:02:01Z"}
        ).encode()
    )
    assert isinstance(retried, RunRetriesTask)
    assert retried.retry_at == datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)
    yielded = parse_run_job_response(
        b'{"status": "AUTO_YIELD_EXECUTION", "location": "l", "timeRemaining": 1.5, "timeElapsed": 2}'
    )
    assert isinstance(yielded, RunAutoYielded)
    parallel = parse_run_job_response(
        json.dumps(
            {
                "status": "RESUME_WITH_PARALLEL_TASK",
                "task": TASK,
                "childErrors": [
                    {"status": "YIELD_EXECUTION", "key": "k"},
                    {"status": "RESUME_WITH_TASK", "task": TASK},
                ],
            }
        ).encode()
    )
    assert isinstance(parallel, RunWaitsForParallelTask)
    assert [child.status for child in parallel.child_errors] == ["YIELD_EXECUTION", "RESUME_WITH_TASK"]


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b'{"status": "DONE"}', b'{"status": "ERROR"}', b'{"status": "RESUME_WITH_TASK", "task": {"id": 1}}'],
)
def test_run_answer_of_another_shape_is_refused(body: bytes) -> None:
    with pytest.raises(AnswerShapeError):
        parse_run_job_response(body)


def test_run_answer_that_is_no_json_is_refused() -> None:
    with pytest.raises(JsonTextError):
        parse_run_job_response(b"<html>")


def test_complaint_names_places_and_no_values() -> None:
    with pytest.raises(AnswerShapeError) as caught:
        parse_answer(RegisterTriggerBody, {"rule": {"event": 5, "source": "whsec_1"}, "source": "whsec_2"})
    assert 'at "source"' in str(caught.value)
    assert "whsec" not in str(caught.value)
