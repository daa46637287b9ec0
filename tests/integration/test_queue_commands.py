"""`kongflow queue` against running services: acting on the ledger from the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from tests.integration.test_cli import Command
from tests.support.fake_endpoint import FakeEndpoint, on, status
from tests.support.offers import answer, job
from tests.support.pair import ADMIN_TOKEN, running_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ADMIN = ("--token", ADMIN_TOKEN)


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
async def dead(command: Command) -> AsyncIterator[FakeEndpoint]:
    """An endpoint whose first index is a dead letter; it answers as it should from now on."""
    index = answer(jobs=[job("first")])
    async with FakeEndpoint(index=index, api_key=command.tenant.api_key, slug="shop") as endpoint:
        endpoint.behaviour = on("INDEX_ENDPOINT", status(500))
        code, _, _ = await command("endpoints", "create", "shop", endpoint.url)
        assert code == 1
        endpoint.behaviour = None
        yield endpoint


async def dead_letter(command: Command) -> Any:
    [found] = (await command.json("queue", "jobs", "--state", "discarded"))["queue_jobs"]
    return found


async def test_dead_letter_is_shown_with_its_errors_and_retried(command: Command, dead: FakeEndpoint) -> None:
    queue_job_id = (await dead_letter(command))["id"]
    code, out, _ = await command("queue", "show", queue_job_id)
    assert code == 0
    for word in (queue_job_id, "DISCARDED", "FAILED_INDEX", "Errors, oldest first"):
        assert word in out, word
    shown = await command.json("queue", "show", queue_job_id)
    assert shown["queue_job"]["errors"][0]["reason"] == "FAILED_INDEX"

    for times, expected in ((("--since", "1h"), 1), (("--until", "2999-01-01"), 1), (("--until", "1h"), 0)):
        assert len((await command.json("queue", "jobs", *times))["queue_jobs"]) == expected

    code, out, _ = await command("queue", "retry", queue_job_id)
    assert (code, out) == (0, f"indexEndpoint {queue_job_id} is AVAILABLE.\n")
    assert len(dead.calls("INDEX_ENDPOINT")) >= 1


async def test_retry_by_filter_asks_with_the_count(
    command: Command, dead: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ("queue", "retry", "--state", "discarded", "--kind", "indexEndpoint")
    code, _, err = await command(*wanted, "--json")
    assert code == 2
    assert "--yes" in json.loads(err)["error"]["message"]
    asked: list[str] = []

    def confirm(text: str, *, abort: bool) -> None:
        assert abort
        asked.append(text)

    monkeypatch.setattr("typer.confirm", confirm)
    assert (await command(*wanted))[1] == "Retried 1 queue job.\n"
    assert asked == ["Retry 1 queue job?"]
    assert (await command(*wanted, "--until", "1h"))[1] == "Nothing matches.\n"
    assert (await command.json(*wanted, "--until", "1h", "--yes"))["matched_count"] == 0
    assert dead.calls("PING")


async def test_refusals_of_a_retry_are_told_and_end_with_one(command: Command, dead: FakeEndpoint) -> None:
    await command.json("endpoints", "index", "shop")
    done = (await command.json("queue", "jobs", "--state", "completed", "--kind", "registerJob"))["queue_jobs"][0]["id"]
    code, _, err = await command("queue", "retry", done)
    assert code == 1
    assert "[WRONG_STATE]" in err
    code, out, _ = await command("queue", "retry", done, "--repeat")
    assert code == 0
    assert "its effect happens again" in out
    await command("endpoints", "delete", "shop", "--yes")
    code, out, _ = await command("queue", "retry", "--state", "discarded", "--yes")
    assert code == 1
    assert "Retried 0 queue jobs." in out
    assert "1 refused" in out
    assert dead.calls("PING")


@pytest.mark.parametrize(
    "arguments", [[], ["--kind", "registerJob"], ["an-id", "--state", "discarded"], ["--state", "x"], ["--limit", "0"]]
)
async def test_retry_needs_either_an_id_or_a_state(command: Command, arguments: list[str]) -> None:
    assert (await command("queue", "retry", *arguments))[0] == 2


async def test_time_that_is_none_is_a_wrong_command_line(command: Command) -> None:
    code, _, err = await command("queue", "jobs", "--since", "yesterday")
    assert code == 2
    assert "--since must be a time" in err


@pytest.mark.parametrize(
    "arguments", [["pause", "default"], ["resume", "default"], ["retry", "--state", "discarded", "--yes"]], ids=" ".join
)
async def test_lane_whose_name_is_empty_is_not_taken_for_all_of_them(command: Command, arguments: list[str]) -> None:
    code, _, err = await command("queue", *arguments, "--lane", "", *ADMIN)
    assert code == 2
    assert "It is empty" in err
    assert not (await command.json("queue", "stats", *ADMIN))["queues"][0].get("pauses")


async def test_pause_holds_work_that_can_be_cancelled_and_resume_lets_it_go(command: Command) -> None:
    assert (await command("queue", "pause", "execution"))[0] == 1
    why = ("--reason", "It moves.")
    assert (await command("queue", "pause", "execution", *why, *ADMIN))[1] == "Paused the queue execution.\n"
    seen = (await command("queue", "stats", *ADMIN))[1]
    assert [word for word in ("the whole queue", "admin", "It moves.") if word not in seen] == []
    assert (await command.json("queue", "pause", "execution", *ADMIN))["pause"]["queue"] == "QUEUE_EXECUTION"
    assert "all" in (await command("queue", "stats"))[1]
    async with FakeEndpoint(index=answer(), api_key=command.tenant.api_key, slug="shop") as endpoint:
        created = await command.json("endpoints", "create", "shop", endpoint.url, "--no-wait")
        [waiting] = (await command.json("queue", "jobs", "--kind", "indexEndpoint"))["queue_jobs"]
        assert waiting["state"] == "QUEUE_JOB_STATE_AVAILABLE"
        assert "Cancelled indexEndpoint" in (await command("queue", "cancel", waiting["id"]))[1]
        assert (await command.json("queue", "cancel", waiting["id"]))["is_pending"] is False
        lane = waiting["lane"]
        assert f"Paused the lane {lane}" in (await command("queue", "pause", "default", "--lane", lane))[1]
        assert "1 lane" in (await command("queue", "stats"))[1]
        for expected in ("Resumed the lane", "was not paused"):
            assert expected in (await command("queue", "resume", "default", "--lane", lane))[1]
        assert (await command.json("queue", "resume", "execution", *ADMIN))["was_paused"] is True
        assert created["index_id"]


async def test_stats_are_watched_as_a_table_or_as_lines_of_json(command: Command) -> None:
    code, out, _ = await command("queue", "stats", "--watch", "--count", "2")
    assert code == 0
    assert "pickup p50/95/99" in out
    code, out, _ = await command("queue", "stats", "--watch", "--count", "2", "--json")
    assert code == 0
    states = [json.loads(line) for line in out.splitlines()]
    assert [len(state["queues"]) for state in states] == [4, 4]
