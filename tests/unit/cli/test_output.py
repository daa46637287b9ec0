from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from kongflow.v1 import endpoint_index_pb2, endpoint_pb2, queue_stats_pb2

from cli.output import NOTHING, as_dict, console, duration_text, enum_name, print_json, printable, table, time_text


def test_enum_value_is_shown_without_its_prefix() -> None:
    index = endpoint_index_pb2.EndpointIndex(state=endpoint_index_pb2.ENDPOINT_INDEX_STATE_PARTIALLY_SUCCEEDED)
    assert enum_name(index, "state") == "PARTIALLY_SUCCEEDED"
    assert enum_name(index, "source") == "UNSPECIFIED"


def test_enum_value_of_a_newer_contract_is_shown_as_its_number() -> None:
    index = endpoint_index_pb2.EndpointIndex()
    index.ParseFromString(b"\x18\x63")
    assert enum_name(index, "state") == "99"


def test_times_are_utc_to_the_second_and_unset_ones_a_dash() -> None:
    endpoint = endpoint_pb2.Endpoint()
    assert time_text(endpoint, "create_time") == NOTHING
    endpoint.create_time.FromDatetime(datetime(2023, 9, 29, 12, 30, 59, 900_000, tzinfo=UTC))
    assert time_text(endpoint, "create_time") == "2023-09-29 12:30:59"


def test_durations_are_seconds_and_unset_ones_a_dash() -> None:
    stats = queue_stats_pb2.QueueStats()
    assert duration_text(stats, "oldest_available_age") == NOTHING
    stats.oldest_available_age.FromTimedelta(timedelta(milliseconds=1250))
    assert duration_text(stats, "oldest_available_age") == "1.2 s"


@pytest.mark.parametrize("text", ["\x1b[31mred", "a\nb", "\u202egnp.exe", "\x9b1A", "bell\a"])
def test_text_of_a_customer_cannot_steer_the_terminal(text: str) -> None:
    assert printable(text).isprintable()
    assert len(printable(text)) == len(text)


def test_cells_are_never_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    console().print(table("Rows", ("a", "b"), [("[bold]x[/bold]", "REFUSED\x1b[2J")]))
    out = capsys.readouterr().out
    assert "[bold]x[/bold]" in out
    assert "\x1b" not in out


@pytest.mark.parametrize("sentence", ["It said a:b:c :warning:", "It said " + "a b " * 60 + "c"])
def test_sentence_is_shown_as_it_is(capsys: pytest.CaptureFixture[str], sentence: str) -> None:
    console().print(sentence, markup=False)
    assert capsys.readouterr().out == f"{sentence}\n"


def test_json_has_the_names_of_the_contract_and_every_plain_field(capsys: pytest.CaptureFixture[str]) -> None:
    endpoint = endpoint_pb2.Endpoint(environment_id="e", slug="ünï")
    print_json(endpoint)
    shown = json.loads(capsys.readouterr().out)
    assert shown == as_dict(endpoint)
    assert shown["environment_id"] == "e"
    assert shown["slug"] == "ünï"
    assert shown["url"] == ""
    print_json({"a": 1}, in_one_line=True)
    assert capsys.readouterr().out == '{"a": 1}\n'
