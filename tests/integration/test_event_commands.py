"""`kongflow events`, `dispatchers` and `runs` against running services."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.integration.test_cli import Command
from tests.support.eventually import eventually
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.offers import answer, job, static_trigger
from tests.support.pair import running_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def command(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Command]:
    # The services run in this process: their log must not stand between the lines of the command.
    with capture_logs():
        async with running_pair(database_url=database_url, redis_url=redis_url) as pair:
            tenant = await pair.new_tenant()
            monkeypatch.setenv("KONGFLOW_SERVER", pair.grpc_target)
            monkeypatch.setenv("KONGFLOW_TOKEN", tenant.service_token)
            monkeypatch.setenv("KONGFLOW_ENVIRONMENT", tenant.environment_id)
            yield Command(pair, tenant, capsys)


@pytest.fixture
async def listening(command: Command) -> AsyncIterator[Command]:
    """Two jobs that listen to `soil.dry`; one of them only to beds below 20."""
    index = answer(
        jobs=[
            job("log", trigger=static_trigger("soil.dry")),
            job("water", trigger=static_trigger("soil.dry", payload={"bed": {"moisture": [{"$lt": 20}]}})),
        ]
    )
    async with FakeEndpoint(index=index, api_key=command.tenant.api_key, slug="garden") as endpoint:
        await command.json("endpoints", "create", "garden", endpoint.url)
        yield command


async def sent(command: Command, *arguments: str) -> Any:
    return (await command.json("events", "send", *arguments))["event"]


async def until_done(command: Command, event: str, *, runs: int) -> Any:
    """Return the explanation of an event as soon as so many runs came of it."""

    async def explained() -> Any:
        found = await command.json("events", "explain", event)
        made = sum(one["invocation"]["run_count"] for one in found["dispatchers"] if "invocation" in one)
        return found if found["event"]["state"] == "EVENT_STATE_DELIVERED" and made == runs else None

    return await eventually(explained, within=timedelta(seconds=20))


async def test_event_is_sent_and_shown_with_its_runs(listening: Command, tmp_path: Path) -> None:
    payload = '{ "bed": {"moisture": 12.50, "id": 9007199254740993} }'
    (tmp_path / "dry.json").write_text(payload)
    wanted = ("events", "send", "soil.dry", "--payload", f"@{tmp_path / 'dry.json'}", "--id", "bed-7")
    code, out, _ = await listening(*wanted, "--context", '{"by": "sensor"}', "--priority", "high", "--test")
    assert code == 0
    assert out.startswith("Sent soil.dry ")
    code, out, _ = await listening(*wanted, "--context", '{"by": "sensor"}', "--test")
    assert code == 0
    assert "It was there already: soil.dry" in out
    await until_done(listening, "bed-7", runs=2)

    shown = await listening.json("events", "show", "bed-7")
    assert shown["event"]["payload_json"] == payload
    assert shown["event"]["context_json"] == '{"by": "sensor"}'
    assert shown["event"]["is_test"] is True
    assert sorted(run["job_slug"] for run in shown["runs"]) == ["log", "water"]
    for name in ("bed-7", shown["event"]["id"]):
        code, out, _ = await listening("events", "show", name)
        assert code == 0
        for word in ("bed-7", "DELIVERED", "2 dispatchers", "12.50", "water", "#1", "high"):
            assert word in out, word

    [run] = (await listening.json("runs", "list", "--job", "water", "--event", "bed-7", "--state", "pending"))["runs"]
    assert run["number"] == "1"
    assert run["event_id"] == "bed-7"
    assert "water" in (await listening("runs", "list"))[1]
    code, out, _ = await listening("runs", "show", run["id"])
    assert code == 0
    for word in ("water", "#1", "PENDING", "bed-7", shown["event"]["id"]):
        assert word in out, word


@pytest.mark.parametrize("event_id", ["d41d8cd98f00b204e9800998ecf8427e", "01890a5d-ac96-774b-bcce-b302099a8057"])
async def test_event_is_found_by_the_senders_own_id_that_looks_like_one_of_the_servers(
    command: Command, event_id: str
) -> None:
    event = await sent(command, "soil.dry", "--id", event_id)
    assert (await command.json("events", "show", event_id))["event"]["id"] == event["id"]


async def test_explain_says_which_clause_failed_and_what_came_of_the_others(listening: Command) -> None:
    event = await sent(listening, "soil.dry", "--payload", '{"bed": {"moisture": 30}}')
    explained = await until_done(listening, event["id"], runs=1)
    assert explained["summary"] == "It was given to 1 dispatcher, which made 1 run."
    code, out, _ = await listening("events", "explain", event["id"])
    assert code == 0
    assert out.startswith("It was given to 1 dispatcher, which made 1 run.\n")
    [filtered] = [line for line in out.splitlines() if "FILTERED" in line]
    for word in ("water", "payload.bed.moisture", "$lt 20", "30"):
        assert word in filtered, word
    [matched] = [line for line in out.splitlines() if "MATCHED" in line]
    assert "log" in matched
    assert "COMPLETED, 1 run" in matched


async def test_event_that_is_not_stored_can_be_tried(listening: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"bed": {"moisture": 5}}'))
    explained = await listening.json("events", "explain", "--name", "soil.dry", "--payload", "-")
    assert explained["summary"] == "It would be given to 2 of 2 dispatchers listening to 'soil.dry'."
    code, out, _ = await listening("events", "explain", "--name", "soil.wet", "--source", "field")
    assert (code, out) == (0, "Nothing would run: nobody listens to 'soil.wet' from the source 'field'.\n")
    assert (await listening.json("events", "list"))["events"] == []


async def test_delayed_event_is_listed_replaced_and_cancelled(command: Command) -> None:
    code, out, _ = await command("events", "send", "later", "--id", "x", "--deliver-after", "2h")
    assert code == 0
    assert "it is delivered at" in out
    other = ("events", "send", "later", "--id", "x", "--payload", "1", "--deliver-at", "2999-01-01")
    assert (await command(*other))[0] == 1
    other = ("events", "send", "later", "--id", "x", "--payload", "1", "--deliver-after", "3h")
    code, _, err = await command(*other)
    assert code == 1
    assert "[ALREADY_EXISTS]" in err
    assert "Replaced later" in (await command(*other, "--update-if-pending"))[1]
    await sent(command, "now", "--source", "field", "--account", "acme")

    async def names(*filters: str) -> list[str]:
        return [event["name"] for event in (await command.json("events", "list", *filters))["events"]]

    assert await names() == ["now", "later"]
    assert await names("--limit", "1") == ["now"]
    for filters in (("--name", "later"), ("--state", "pending", "--name", "later"), ("--source", "trigger.dev")):
        assert await names(*filters) == ["later"], filters
    for filters in (("--source", "field"), ("--account", "acme"), ("--since", "1h", "--account", "acme")):
        assert await names(*filters) == ["now"], filters
    assert await names("--until", "1h") == []
    assert "later" in (await command("events", "list"))[1]

    assert (await command("events", "cancel", "x"))[1].startswith("Cancelled later ")
    assert (await command.json("events", "cancel", "x"))["event"]["state"] == "EVENT_STATE_CANCELLED"
    assert await names("--state", "cancelled") == ["later"]
    assert "It was cancelled at " in (await command("events", "explain", "x"))[1]


async def test_events_are_replayed_by_id_or_by_time(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = await sent(command, "a"), await sent(command, "b")
    replayed = await command.json("events", "replay", first["id"], second["id"])
    assert [event["replay_of"] for event in replayed["events"]] == [first["id"], second["id"]]
    range_of_b = ("events", "replay", "--from", "1h", "--name", "b")
    assert (await command(*range_of_b, "--dry-run"))[1] == "2 events would be sent once more.\n"
    assert (await command.json(*range_of_b, "--dry-run", "--source", "elsewhere"))["matched_count"] == 0
    code, _, err = await command(*range_of_b, "--json")
    assert code == 2
    assert "--yes" in json.loads(err)["error"]["message"]
    asked: list[str] = []

    def confirm(text: str, *, abort: bool) -> None:
        assert abort
        asked.append(text)

    monkeypatch.setattr("typer.confirm", confirm)
    assert (await command(*range_of_b))[1].startswith("Sent 2 events once more.\n")
    assert asked == ["Send 2 events once more?"]
    assert (await command(*range_of_b, "--before", "1h", "--from", "2h"))[1] == "Nothing matches.\n"
    code, out, _ = await command(*range_of_b, "--limit", "1", "--yes")
    assert "Sent 1 event once more. More match: go on with --from 2" in out
    again = out.split("--from ")[1].split()[0]
    rest = await command.json("events", "replay", "--from", again, "--name", "b", "--dry-run")
    assert rest["matched_count"] == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["send", "x", "--deliver-after", "soon"], "--deliver-after must be a length of time"),
        (["send", "x", "--deliver-at", "2h"], "--deliver-at must be a time such as 2026"),
        (["send", "x", "--deliver-at", "2026-01-01", "--deliver-after", "1h"], "not both"),
        (["send", "x", "--payload", "@/nowhere/at/all"], "--payload '@/nowhere/at/all' cannot be read"),
        (["send", "x", "--payload", "-", "--context", "-"], "Only one of --payload and --context"),
        (["replay"], "Name events by their ids"),
        (["replay", "an-id", "--name", "x"], "Name events by their ids"),
        (["explain"], "Name a stored event"),
        (["explain", "an-id", "--payload", "1"], "Name a stored event"),
    ],
)
async def test_wrong_command_line_ends_with_two(command: Command, arguments: list[str], said: str) -> None:
    code, _, err = await command("events", *arguments)
    assert code == 2
    assert said in err


async def test_event_that_is_nowhere_ends_with_one(command: Command) -> None:
    for name in ("nothing", "01890a5d-ac96-774b-bcce-b302099a8057"):
        code, _, err = await command("events", "show", name)
        assert code == 1
        assert f"There is no event '{name}' here. [NOT_FOUND]" in err


async def test_event_whose_event_id_looks_like_an_id_is_found_by_it(command: Command) -> None:
    name = "01890a5d-ac96-774b-bcce-b302099a8057"
    event = await sent(command, "x", "--id", name)
    assert (await command.json("events", "show", name))["event"]["id"] == event["id"]


async def test_dispatchers_are_listed_and_shown_with_what_they_start(listening: Command) -> None:
    listed = (await listening.json("dispatchers", "list", "--event", "soil.dry", "--origin", "index"))["dispatchers"]
    assert len(listed) == 2
    assert (await listening.json("dispatchers", "list", "--origin", "api"))["dispatchers"] == []
    assert (await listening.json("dispatchers", "list", "--source", "field"))["dispatchers"] == []
    code, out, _ = await listening("dispatchers", "list")
    assert code == 0
    for word in ("soil.dry", "water", "log", "ENABLED", listed[0]["id"]):
        assert word in out, word
    [water] = [one for one in listed if "moisture" in one["payload_filter_json"]]
    code, out, _ = await listening("dispatchers", "show", water["id"])
    assert code == 0
    for word in ("water", "soil.dry", "$lt", "index"):
        assert word in out, word
    assert (await listening.json("dispatchers", "show", water["id"]))["dispatcher"] == water
