from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.endpoints.domain.endpoint_index import ItemKind
from services.endpoints.domain.index_answer import Disposition, IndexAnswerError, IndexItem, read_index_answer
from services.endpoints.domain.json_text import canonical_hash, find_unstorable, parse_json
from tests.support.offers import (
    answer,
    cron_trigger,
    dynamic,
    dynamic_trigger_use,
    integration,
    interval_trigger,
    job,
    source,
    static_trigger,
)

if TYPE_CHECKING:
    from collections.abc import Callable


FORMAT_ISSUE = "There's an issue with the format of your Jobs: "


def read_one(**lists: Any) -> IndexItem:
    (item,) = read_index_answer(answer(**lists)).items
    return item


def accepted_job(**changes: Any) -> dict[str, Any]:
    item = read_one(jobs=[job(**changes)])
    assert item.disposition is Disposition.ACCEPTED, item.reason
    return item.payload


def refusal(**lists: Any) -> str:
    item = read_one(**lists)
    assert item.disposition is Disposition.REFUSED
    assert item.payload == {}
    assert item.reason is not None
    return item.reason


def test_every_list_is_read_in_order_and_counted() -> None:
    reading = read_index_answer(
        answer(
            jobs=[job("a"), job("b", enabled=False), job("c", internal=True), job("d", "x")],
            sources=[source()],
            dynamicTriggers=[dynamic("e")],
            dynamicSchedules=[dynamic("f")],
            webhooks=[{"key": "g"}],
            httpEndpoints=[{"id": "h"}],
        )
    )
    assert [(item.ordinal, item.kind, item.key, item.version, item.disposition) for item in reading.items] == [
        (0, ItemKind.JOB, "a", "1.0.0", Disposition.ACCEPTED),
        (1, ItemKind.JOB, "b", "1.0.0", Disposition.DISABLED),
        (2, ItemKind.JOB, "c", "1.0.0", Disposition.ACCEPTED),
        (3, ItemKind.JOB, "d", None, Disposition.REFUSED),
        (4, ItemKind.SOURCE, "acme.room-http", None, Disposition.ACCEPTED),
        (5, ItemKind.DYNAMIC_TRIGGER, "e", None, Disposition.ACCEPTED),
        (6, ItemKind.DYNAMIC_SCHEDULE, "f", None, Disposition.ACCEPTED),
        (7, ItemKind.WEBHOOK, "g", None, Disposition.UNSUPPORTED),
        (8, ItemKind.HTTP_ENDPOINT, "h", None, Disposition.UNSUPPORTED),
    ]
    assert reading.found == {"jobs": 1, "sources": 1, "dynamicTriggers": 1, "dynamicSchedules": 1}
    assert reading.offered == [
        (ItemKind.JOB, "a"),
        (ItemKind.JOB, "c"),
        (ItemKind.JOB, "d"),
        (ItemKind.SOURCE, "acme.room-http"),
        (ItemKind.DYNAMIC_TRIGGER, "e"),
        (ItemKind.DYNAMIC_SCHEDULE, "f"),
    ]


def test_the_lists_are_kept_as_received() -> None:
    lists = answer(jobs=[job(unknown=1), 7], webhooks=[{"key": "g", "x": None}])
    assert read_index_answer(lists).data == lists


def test_the_payload_has_defaults_and_no_unknown_keys() -> None:
    item = read_one(
        jobs=[{key: value for key, value in job(unknown=1).items() if key not in {"enabled", "integrations"}}]
    )
    assert item.payload == {
        "id": "hello",
        "name": "Hello",
        "version": "1.0.0",
        "event": {"name": ["user.created"], "title": "Event", "source": "trigger.dev", "icon": "custom-event"},
        "trigger": {
            "type": "static",
            "title": ["user.created"],
            "rule": {"event": ["user.created"], "source": "trigger.dev"},
        },
        "integrations": {},
        "internal": False,
        "startPosition": "latest",
        "enabled": True,
        "preprocessRuns": False,
    }
    assert item.content_hash == canonical_hash(item.payload)


def test_customer_values_keep_their_nulls() -> None:
    payload = read_one(sources=[source(params={"room": None, "n": [None, 1.0]})]).payload
    assert payload["params"] == {"room": None, "n": [None, 1.0]}
    event = {**job()["event"], "examples": [{"id": "now", "name": "Now", "payload": {"ts": None}}]}
    assert accepted_job(event=event)["event"]["examples"][0]["payload"] == {"ts": None}


@pytest.mark.parametrize(
    ("changes", "path", "value"),
    [
        ({"trigger": static_trigger(["a", "b"])}, ("trigger", "rule", "event"), ["a", "b"]),
        ({"trigger": cron_trigger()}, ("trigger", "schedule", "options"), {"cron": "*/5 * * * *"}),
        ({"trigger": interval_trigger(20)}, ("trigger", "schedule", "options"), {"seconds": 20}),
        ({"trigger": interval_trigger(2_592_000)}, ("trigger", "schedule", "options"), {"seconds": 2_592_000}),
        ({"trigger": dynamic_trigger_use()}, ("trigger",), {"type": "dynamic", "id": "on-demand"}),
        ({"trigger": {"type": "invoke"}}, ("trigger",), {"type": "invoke"}),
        ({"queue": "slow"}, ("queue",), {"name": "slow"}),
        ({"queue": {"name": "slow", "maxConcurrent": 1}}, ("queue",), {"name": "slow", "maxConcurrent": 1}),
        ({"startPosition": "initial"}, ("startPosition",), "initial"),
        ({"concurrencyLimit": 5}, ("concurrencyLimit",), {"limit": 5}),
        ({"concurrencyLimit": {"id": "x", "limit": 5.0}}, ("concurrencyLimit",), {"id": "x", "limit": 5}),
        ({"integrations": {"a": integration(auth_source="HOSTED")}}, ("integrations", "a", "authSource"), "HOSTED"),
        ({"integrations": {"a": integration(auth_source="RESOLVER")}}, ("integrations", "a", "authSource"), "RESOLVER"),
    ],
)
def test_every_form_of_a_job_is_accepted(changes: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    found: Any = accepted_job(**changes)
    for step in path:
        found = found[step]
    assert found == value


def test_events_of_an_older_source_are_its_option_named_event() -> None:
    old = source(events=["a", "b", "a"])
    del old["version"], old["options"]
    payload = read_one(sources=[old]).payload
    assert payload["version"] == "1"
    assert payload["options"] == {"event": ["a", "b"]}
    assert "events" not in payload


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": "1.x"}, 'Job "hello": version "1.x" must be three numbers of at most 15 digits, such as 1.0.0'),
        ({"version": 1}, 'Job "hello": version must be a string'),
        ({"name": None}, 'Job "hello": name must be a string'),
        ({"event": 7}, 'Job "hello": event must be an object'),
        ({"event": {**job()["event"], "name": []}}, 'Job "hello": event.name must have at least 1 elements'),
        ({"event": {**job()["event"], "icon": 1}}, 'Job "hello": event.icon must be a string'),
        ({"trigger": {}}, 'Job "hello": trigger.type is required'),
        (
            {"trigger": {"type": "manual"}},
            "Job \"hello\": trigger.type must be one of 'static', 'scheduled', 'dynamic', 'invoke'",
        ),
        (
            {"trigger": static_trigger() | {"title": [1], "rule": {"event": [1], "source": "s"}}},
            'Job "hello": trigger.title[0] must be a string; trigger.rule.event[0]',
        ),
        ({"trigger": interval_trigger(19)}, 'Job "hello": trigger.schedule.options.seconds must be at least 20'),
        ({"trigger": interval_trigger(2_592_001)}, "trigger.schedule.options.seconds must be at most 2592000"),
        ({"trigger": cron_trigger("61 * * * *")}, "options.cron has '61' as its minute, which must be 0 to 59"),
        (
            {"trigger": static_trigger(payload={"a": {"b": [{"$gx": 1}]}})},
            'Job "hello": trigger.rule.payload.a.b[0].$gx is no operator',
        ),
        ({"enabled": "yes"}, 'Job "hello": enabled must be true or false'),
        ({"startPosition": "middle"}, "startPosition must be 'initial' or 'latest'"),
        ({"concurrencyLimit": 0}, "concurrencyLimit.limit must be at least 1"),
        ({"queue": 7}, "queue must be an object"),
        ({"integrations": {"a": {"id": "x"}}}, "integrations.a.metadata is required"),
        ({"integrations": {"": integration()}}, "must not be empty"),
        (
            {"integrations": {str(number): integration() for number in range(101)}},
            'Job "hello": integrations must have at most 100 elements',
        ),
        ({"name": "x" * 501}, "name must have at most 500 characters"),
        ({"name": 1, "version": 2, "event": 3, "trigger": 4}, "; and 1 more"),
    ],
)
def test_a_refusal_names_the_field(changes: dict[str, Any], reason: str) -> None:
    assert reason in refusal(jobs=[job(**changes)])


@pytest.mark.parametrize(
    ("lists", "reason"),
    [
        ({"sources": [source(version="3")]}, "Source \"acme.room-http\": version must be '1' or '2'"),
        ({"sources": [source(channel="FTP")]}, "channel must be 'HTTP', 'SQS' or 'SMTP'"),
        ({"sources": [source(options={"event": [""]})]}, "options.event[0] must not be empty"),
        ({"sources": [source("k" * 501)]}, "sources[0]: key must have at most 500 characters"),
        ({"dynamicTriggers": [dynamic(jobs=[("", "1")])]}, 'Dynamic trigger "on-demand": jobs[0].id must not be empty'),
        ({"dynamicSchedules": [{"id": "x"}]}, 'Dynamic schedule "x": jobs is required'),
        ({"jobs": [{}]}, "jobs[0]: id is required"),
        ({"jobs": [job() | {"id": 7}]}, "jobs[0]: id must be a string"),
        ({"jobs": [job("a\nb")]}, "jobs[0]: id must not hold control characters"),
        ({"jobs": [job("a" * 501)]}, "jobs[0]: id must have at most 500 characters"),
        (
            {"dynamicTriggers": [dynamic("a" * 201)]},
            "dynamicTriggers[0]: id must have at most 200 characters",
        ),
        ({"jobs": [job("")]}, "jobs[0]: id must not be empty"),
        ({"jobs": [None]}, "jobs[0]: it must be an object"),
        ({"jobs": [job(name="a\x00b")]}, 'Job "hello": it holds a NUL character'),
        ({"jobs": [job(name="a\ud800b")]}, 'Job "hello": it holds a lone surrogate'),
    ],
)
def test_a_refusal_names_the_item(lists: dict[str, Any], reason: str) -> None:
    assert reason in refusal(**lists)


def test_an_item_that_cannot_be_stored_leaves_a_marker_in_the_data() -> None:
    reading = read_index_answer(answer(jobs=[job("a"), job("b", name="\x00"), job("c", enabled=False, name="\x00")]))
    assert [item.disposition for item in reading.items] == [
        Disposition.ACCEPTED,
        Disposition.REFUSED,
        Disposition.DISABLED,
    ]
    marker = {"unstorable": "It holds a NUL character."}
    assert reading.data["jobs"] == [job("a"), marker, marker]
    assert find_unstorable(reading.data) is None


def test_reasons_can_be_stored_and_are_short() -> None:
    reason = refusal(jobs=[job(version="1\n" * 10_000, event={}, trigger=static_trigger(payload={"k\n" * 5_000: 1}))])
    assert len(reason) <= 1_000
    assert "\n" not in reason


def test_of_equal_keys_the_first_counts() -> None:
    reading = read_index_answer(
        answer(jobs=[job("a"), job("a", "2.0.0"), job("b", "x"), job("b"), job("c", enabled=False), job("c")])
    )
    assert [item.disposition for item in reading.items] == [
        Disposition.ACCEPTED,
        Disposition.REFUSED,
        Disposition.REFUSED,
        Disposition.REFUSED,
        Disposition.DISABLED,
        Disposition.REFUSED,
    ]
    assert reading.items[1].reason == 'Job "a": id is listed more than once'


def test_an_event_of_an_older_source_is_as_long_as_its_option_may_be() -> None:
    reason = refusal(sources=[source(events=["ok", "\U0001f600" * 498, "\U0001f600" * 499])])
    assert reason == (
        'Source "acme.room-http": events[2] must have at most 2000 bytes together with the option\'s name'
    )


def test_a_trigger_is_not_refused_with_a_job_that_it_starts() -> None:
    offered = answer(
        jobs=[job("good"), job("bad", "1.0")], dynamicTriggers=[dynamic(jobs=[("good", "1.0.0"), ("bad", "1.0")])]
    )
    reading = read_index_answer(offered)
    assert {item.key: item.disposition.name for item in reading.items} == {
        "good": "ACCEPTED",
        "bad": "REFUSED",
        "on-demand": "ACCEPTED",
    }


def test_a_job_that_an_sdk_names_after_a_source_or_a_trigger_is_as_long_as_these() -> None:
    key, slug = "\U0001f600" * 500, "\U0001f600" * 200
    reading = read_index_answer(
        answer(
            jobs=[job(key, queue={"name": key, "maxConcurrent": 1}), job(f"register-dynamic-trigger-{slug}")],
            sources=[source(key)],
            dynamicTriggers=[
                dynamic(slug, registerSourceJob={"id": f"register-dynamic-trigger-{slug}", "version": "0.1.0"})
            ],
        )
    )
    assert {item.reason for item in reading.items} == {None}


def test_the_refused_twin_of_a_disabled_job_is_not_offered() -> None:
    reading = read_index_answer(answer(jobs=[job("a", enabled=False), job("a"), job("b", "x"), job("b")]))
    assert set(reading.offered) == {(ItemKind.JOB, "b")}


@pytest.mark.parametrize(("characters", "disposition"), [(256, Disposition.ACCEPTED), (257, Disposition.REFUSED)])
@pytest.mark.parametrize("part", ["event", "source"])
def test_a_rule_names_only_what_an_event_can_have(part: str, characters: int, disposition: Disposition) -> None:
    offered = job("a")
    offered["trigger"]["rule"][part] = "x" * characters

    assert read_one(jobs=[offered]).disposition is disposition


@pytest.mark.parametrize(("characters", "disposition"), [(300, Disposition.ACCEPTED), (301, Disposition.REFUSED)])
def test_an_option_is_as_long_as_its_stored_key_may_be(characters: int, disposition: Disposition) -> None:
    item = read_one(sources=[source(options={"\U0001f600" * 200: ["ok", "\U0001f600" * characters]})])
    assert item.disposition is disposition
    too_long = "[1] must have at most 2000 bytes together with the option's name"
    assert (item.reason is not None and item.reason.endswith(too_long)) is (disposition is Disposition.REFUSED)


def test_a_disabled_job_needs_nothing_but_its_id() -> None:
    assert read_one(jobs=[{"id": "a", "enabled": False}]).disposition is Disposition.DISABLED


def test_a_key_that_cannot_be_read_is_not_offered() -> None:
    reading = read_index_answer(answer(jobs=[{}, 7]))
    assert reading.offered == []
    assert [item.key for item in reading.items] == ["jobs[0]", "jobs[1]"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "There's an issue with the format of your Jobs: Expected object, received null"),
        ([], "There's an issue with the format of your Jobs: Expected object, received array"),
        ("x", "There's an issue with the format of your Jobs: Expected object, received string"),
        (True, "There's an issue with the format of your Jobs: Expected object, received boolean"),
        (1.5, "There's an issue with the format of your Jobs: Expected object, received number"),
        (
            {"jobs": {}, "sources": [], "dynamicTriggers": []},
            FORMAT_ISSUE + 'Expected array, received object at "jobs"; Required at "dynamicSchedules"',
        ),
        (
            answer(webhooks=1),
            'There\'s an issue with the format of your Jobs: Expected array, received number at "webhooks"',
        ),
    ],
)
def test_an_answer_without_its_lists_is_refused_as_a_whole(value: Any, message: str) -> None:
    with pytest.raises(IndexAnswerError) as caught:
        read_index_answer(value)
    assert str(caught.value) == message


def test_items_of_all_lists_count_towards_the_limit() -> None:
    lists = answer(jobs=[{}, {}], httpEndpoints=[{}])
    assert len(read_index_answer(lists, max_items=3).items) == 3
    with pytest.raises(IndexAnswerError, match="offers 3 items; at most 2 are accepted"):
        read_index_answer(lists, max_items=2)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=10,
)


def mutations(make: Callable[[], dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(sorted(make())), JSON, max_size=3).map(lambda changes: {**make(), **changes})


@given(
    st.lists(mutations(job) | JSON, max_size=3),
    st.lists(mutations(source) | JSON, max_size=3),
    st.lists(mutations(dynamic) | JSON, max_size=3),
)
def test_whatever_the_items_are_each_gets_one_answer_that_can_be_stored(
    jobs: list[Any], sources: list[Any], dynamic_triggers: list[Any]
) -> None:
    good = job("the-good-one")
    reading = read_index_answer(answer(jobs=[good, *jobs], sources=sources, dynamicTriggers=dynamic_triggers))
    assert len(reading.items) == 1 + len(jobs) + len(sources) + len(dynamic_triggers)
    assert reading.items[0].disposition is Disposition.ACCEPTED
    for item in reading.items:
        assert (item.reason is not None) is (item.disposition in {Disposition.REFUSED, Disposition.UNSUPPORTED})
        assert find_unstorable([item.key, item.reason, item.payload]) is None
    keys = [(item.kind, item.key) for item in reading.items if item.disposition is not Disposition.REFUSED]
    assert len(keys) == len(set(keys))
    assert find_unstorable(reading.data) is None
    assert parse_json(json.dumps(reading.data)) is not None


def test_reading_an_accepted_payload_again_changes_nothing() -> None:
    first = read_index_answer(
        answer(jobs=[job(trigger=cron_trigger())], sources=[source()], dynamicTriggers=[dynamic()])
    )
    jobs, sources, triggers = (item.payload for item in first.items)
    again = read_index_answer(answer(jobs=[jobs], sources=[sources], dynamicTriggers=[triggers]))
    assert [item.content_hash for item in again.items] == [item.content_hash for item in first.items]
