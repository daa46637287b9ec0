from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.endpoints.domain.errors import InvalidRequestError, Reason
from services.endpoints.rpc.validate import MAX_JSON_BYTES, Checks

NUMBERS = {1: "one", 2: "two"}


def violations(checks: Checks) -> list[str]:
    try:
        checks.finish()
    except InvalidRequestError as error:
        return [violation.field for violation in error.violations]
    return []


def test_all_violations_are_reported_at_once() -> None:
    checks = Checks()
    checks.slug("slug", "")
    checks.url("url", "ftp://example.com")
    checks.uuid("environment_id", "x")
    assert violations(checks) == ["slug", "url", "environment_id"]


def test_nothing_refused_raises_nothing() -> None:
    checks = Checks()
    assert checks.slug("slug", "My-app_1.0~x") == "My-app_1.0~x"
    assert checks.url("url", "https://example.com/api/trigger") == "https://example.com/api/trigger"
    assert violations(checks) == []


@pytest.mark.parametrize(
    "text",
    [
        "a" * 101,
        "a b",
        "a/b",
        "a..b",
        "..",
        ".a",
        "-a",
        "caf\u00e9",
        "cafe\u0301",
        "\U0001f600",
        "a\u200fb",
        "a\x00",
        "a\n",
        "\uff41",
        "'); drop table endpoints;--",
    ],
)
def test_a_slug_is_plain_ascii(text: str) -> None:
    checks = Checks()
    checks.slug("slug", text)
    assert violations(checks) == ["slug"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "00000000-0000-0000-0000-000000000000",
        "{01890a5d-ac96-774b-bcce-b302099a8057}",
        "urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057",
        "01890a5dac96774bbcceb302099a8057",
        "01890a5d-ac96-774b-bcce-b302099a80577",
        "01890a5d-ac96-774b-bcce-b302099a805\u0667",
    ],
)
def test_an_id_is_a_uuid_in_its_usual_form(text: str) -> None:
    checks = Checks()
    checks.uuid("id", text)
    assert violations(checks) == ["id"]


def test_an_id_may_be_written_in_capitals() -> None:
    checks = Checks()
    assert checks.uuid("id", "01890A5D-AC96-774B-BCCE-B302099A8057") == UUID("01890a5d-ac96-774b-bcce-b302099a8057")
    assert checks.optional_uuid("id", "") is None
    assert violations(checks) == []


@pytest.mark.parametrize(
    "text",
    [
        "6f1c1f6e-4bfb-4a7e-9d0b-1f5d7a4d2a110",
        "01890a5d-ac96-774b-bcce-b302099a8057",
        "nonsense",
        "00000000-0000-0000-0000-000000000000",
    ],
)
def test_a_request_id_is_a_random_uuid(text: str) -> None:
    checks = Checks()
    checks.request_id("request_id", text)
    assert violations(checks) == ["request_id"]


def test_a_request_id_may_be_absent() -> None:
    checks, wanted = Checks(), uuid4()
    assert checks.request_id("request_id", "") is None
    assert checks.request_id("request_id", str(wanted)) == wanted
    assert violations(checks) == []


@pytest.mark.parametrize(("size", "expected"), [(0, 50), (1, 1), (1000, 1000), (10_000, 1000)])
def test_a_page_size_has_a_default_and_a_maximum(size: int, expected: int) -> None:
    checks = Checks()
    assert checks.page_size("page_size", size) == expected
    assert violations(checks) == []


def test_a_negative_page_size_is_refused() -> None:
    checks = Checks()
    checks.page_size("page_size", -1)
    assert violations(checks) == ["page_size"]


def test_an_enum_number_outside_the_contract_is_refused() -> None:
    checks = Checks()
    assert checks.enum("state", 2, NUMBERS) == "two"
    assert checks.enum("state", 0, NUMBERS) is None
    assert checks.enum("state", 0, NUMBERS, default="one") == "one"
    assert violations(checks) == []
    checks.enum("state", 99, NUMBERS)
    checks.required_enum("kind", 0, NUMBERS)
    assert violations(checks) == ["state", "kind"]


@pytest.mark.parametrize("text", ["{", "NaN", "[1,]", "{} {}", '"\\u0000"', "\ufeff{}", "[" * 65 + "]" * 65])
def test_customer_json_is_strict(text: str) -> None:
    checks = Checks()
    checks.json("source_data_json", text)
    assert violations(checks) == ["source_data_json"]


def test_customer_json_is_returned_as_it_came() -> None:
    checks = Checks()
    assert checks.json("source_data_json", '{"a": 9007199254740993}') == '{"a": 9007199254740993}'
    assert checks.json("source_data_json", "") is None
    assert violations(checks) == []


def test_customer_json_that_is_too_large_has_a_reason_of_its_own() -> None:
    checks = Checks()
    checks.json("source_data_json", '"' + "a" * MAX_JSON_BYTES + '"')
    with pytest.raises(InvalidRequestError) as caught:
        checks.finish()
    assert caught.value.reason is Reason.PAYLOAD_TOO_LARGE


def test_mixed_reasons_become_the_general_one() -> None:
    checks = Checks()
    checks.json("source_data_json", '"' + "a" * MAX_JSON_BYTES + '"')
    checks.slug("slug", "")
    with pytest.raises(InvalidRequestError) as caught:
        checks.finish()
    assert caught.value.reason is Reason.INVALID_REQUEST


@pytest.mark.parametrize(
    "timestamp",
    [
        Timestamp(seconds=253_402_300_800),
        Timestamp(seconds=-62_135_596_801),
        Timestamp(seconds=2**63 - 1),
        Timestamp(nanos=-1),
        Timestamp(nanos=1_000_000_000),
    ],
)
def test_an_impossible_time_is_refused(timestamp: Timestamp) -> None:
    checks = Checks()
    checks.time("run_time", timestamp)
    assert violations(checks) == ["run_time"]


def test_a_time_may_have_a_latest() -> None:
    checks, latest = Checks(), datetime(2030, 1, 1, tzinfo=UTC)
    timestamp = Timestamp()
    timestamp.FromDatetime(latest)
    assert checks.time("run_time", timestamp, latest=latest) == latest
    assert violations(checks) == []
    checks.time("run_time", timestamp, latest=latest - timedelta(microseconds=1))
    assert violations(checks) == ["run_time"]


def test_names_and_texts_have_lengths_and_no_control_characters() -> None:
    checks = Checks()
    assert checks.name("name", "Caf\u00e9 \U0001f600") == "Caf\u00e9 \U0001f600"
    assert checks.name("title", "", default="slug") == "slug"
    assert checks.reason("reason", "first line\nsecond") == "first line\nsecond"
    assert checks.filter_text("title", "id;drop table") == "id;drop table"
    assert checks.hook_identifier("hook", "0123456789") == "0123456789"
    assert violations(checks) == []
    checks.name("name", " ")
    checks.name("name", "a" * 201)
    checks.name("name", "a\nb")
    checks.reason("reason", "a\x00")
    checks.reason("reason", "a" * 1001)
    checks.filter_text("slug", "\x00")
    checks.hook_identifier("hook", "w123456789")
    assert violations(checks) == ["name", "name", "name", "reason", "reason", "slug", "hook"]
