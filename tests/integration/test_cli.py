"""The kongflow command against running services: what it prints and with which exit code it ends."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from structlog.testing import capture_logs

from cli.__main__ import main
from tests.support.certificates import Authority
from tests.support.fake_endpoint import FakeEndpoint, on, status
from tests.support.offers import answer, interval_trigger, job, source
from tests.support.pair import ADMIN_TOKEN, running_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.pair import Pair, Tenant


class Command:
    """Runs the command in a thread beside the services, as one tenant."""

    def __init__(self, pair: Pair, tenant: Tenant, captured: pytest.CaptureFixture[str]) -> None:
        self.pair = pair
        self.tenant = tenant
        self._captured = captured

    async def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Return the exit code and what was printed to standard output and to standard error."""
        self._captured.readouterr()
        code = await asyncio.to_thread(main, arguments)
        out, err = self._captured.readouterr()
        return code, out, err

    async def json(self, *arguments: str) -> Any:
        """Return what a command that must succeed prints with --json."""
        code, out, err = await self(*arguments, "--json")
        assert code == 0, err
        return json.loads(out)


@pytest.fixture
async def command(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Command]:
    # The services run in this process: their log must not stand between the lines of the command.
    with capture_logs():
        async with running_pair(database_url=database_url, redis_url=redis_url) as pair:
            tenant = await pair.new_tenant()
            monkeypatch.setenv("KONGFLOW_SERVER", pair.grpc_target)
            monkeypatch.setenv("KONGFLOW_TOKEN", tenant.api_key)
            monkeypatch.setenv("KONGFLOW_DATABASE_URL", database_url)
            yield Command(pair, tenant, capsys)


@pytest.fixture
async def endpoint(command: Command) -> AsyncIterator[FakeEndpoint]:
    index = answer(
        jobs=[job("first"), job("off", enabled=False), job("hasty", trigger=interval_trigger(5))], sources=[source()]
    )
    async with FakeEndpoint(index=index, api_key=command.tenant.api_key, slug="shop") as endpoint:
        yield endpoint


async def test_create_waits_for_the_index_and_shows_every_item(command: Command, endpoint: FakeEndpoint) -> None:
    code, out, err = await command("endpoints", "create", "shop", endpoint.url)
    assert code == 0
    assert "Registered shop as " in out
    for word in ("first", "REGISTERED", "off", "DISABLED", "hasty", "REFUSED", "at least 20", "partially succeeded"):
        assert word in out, word
    assert "4/4" in err


async def test_create_again_updates_and_json_holds_the_index_and_its_items(
    command: Command, endpoint: FakeEndpoint
) -> None:
    first = await command.json("endpoints", "create", "shop", endpoint.url)
    again = await command.json("endpoints", "create", "shop", endpoint.url)
    assert (first["created"], again["created"]) == (True, False)
    assert again["endpoint"]["id"] == first["endpoint"]["id"]
    assert again["index"]["state"] == "ENDPOINT_INDEX_STATE_PARTIALLY_SUCCEEDED"
    assert [item["key"] for item in again["items"]] == ["first", "off", "hasty", "acme.room-http"]


async def test_server_of_up_is_called_in_plaintext_whatever_the_shell_keeps_for_others(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "development.json").write_text(json.dumps({"server": command.pair.grpc_target}))
    (tmp_path / "service-token").write_text(command.tenant.service_token)
    monkeypatch.setenv("KONGFLOW_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("KONGFLOW_TLS_CA_FILE", str(Authority(tmp_path, "of others").file))
    environment = ("--environment", command.tenant.environment_id)
    # Named, it is any server.
    assert (await command("endpoints", "list", *environment))[0] == 3
    monkeypatch.delenv("KONGFLOW_SERVER")
    monkeypatch.delenv("KONGFLOW_TOKEN")
    assert (await command.json("endpoints", "list", *environment))["endpoints"] == []


async def test_create_without_waiting_names_the_index(command: Command, endpoint: FakeEndpoint) -> None:
    code, out, _ = await command("endpoints", "create", "shop", endpoint.url, "--no-wait")
    assert code == 0
    assert "Its index is " in out


async def test_refused_ping_is_one_sentence_with_its_reason(command: Command, endpoint: FakeEndpoint) -> None:
    code, _, err = await command("endpoints", "create", "another", endpoint.url)
    assert code == 1
    assert err == "Endpoint ID mismatch error. Expected shop, got another [FAILED_PING]\n"


async def test_list_and_show_tell_what_is_registered(command: Command, endpoint: FakeEndpoint) -> None:
    created = await command.json("endpoints", "create", "shop", endpoint.url)
    listed = await command("endpoints", "list")
    assert "shop" in listed[1]
    assert "HEALTHY" in listed[1]
    for name in ("shop", created["endpoint"]["id"]):
        shown = await command("endpoints", "show", name)
        assert shown[0] == 0
        assert created["endpoint"]["indexing_hook_identifier"] in shown[1]
        assert "hasty" in shown[1]
    facts = await command.json("endpoints", "show", "shop")
    assert facts["endpoint"]["url"] == endpoint.url
    assert [index["id"] for index in facts["indexes"]] == [created["index_id"]]
    assert len(facts["items"]) == 4


@pytest.mark.parametrize("slug", ["d41d8cd98f00b204e9800998ecf8427e", "01890a5d-ac96-774b-bcce-b302099a8057"])
async def test_endpoint_is_found_by_a_slug_that_looks_like_an_id(
    command: Command, endpoint: FakeEndpoint, slug: str
) -> None:
    endpoint.slug = slug
    created = await command.json("endpoints", "create", slug, endpoint.url)
    for name in (slug, created["endpoint"]["id"]):
        assert (await command.json("endpoints", "show", name))["endpoint"]["id"] == created["endpoint"]["id"]
    code, _, err = await command("endpoints", "show", "01890a5d-ac96-774b-bcce-b302099a8058")
    assert code == 1
    assert err == "There is no endpoint '01890a5d-ac96-774b-bcce-b302099a8058' here. [NOT_FOUND]\n"


async def test_ping_says_whether_the_endpoint_answers(command: Command, endpoint: FakeEndpoint) -> None:
    await command.json("endpoints", "create", "shop", endpoint.url)
    assert (await command("endpoints", "ping", "shop"))[1].startswith("shop answered in ")
    assert (await command.json("endpoints", "ping", "shop"))["ok"] is True
    endpoint.api_key = "tr_dev_another"
    code, out, _ = await command("endpoints", "ping", "shop")
    assert code == 1
    assert "Forbidden: client apiKey mismatch" in out
    assert "(HTTP 401)" in out


async def test_index_shows_what_has_changed(command: Command, endpoint: FakeEndpoint) -> None:
    await command.json("endpoints", "create", "shop", endpoint.url)
    endpoint.index = answer(jobs=[job("first", "1.0.1"), job("second")], sources=[source()])
    code, out, _ = await command("endpoints", "index", "shop", "--force", "--reason", "a new version")
    assert code == 0
    assert "The index succeeded." in out
    outcome = await command.json("endpoints", "index", "shop")
    assert {item["state"] for item in outcome["items"]} == {"ENDPOINT_INDEX_ITEM_STATE_UNCHANGED"}
    assert outcome["index"]["source"] == "ENDPOINT_INDEX_SOURCE_MANUAL"
    assert (await command.json("endpoints", "index", "shop", "--no-wait"))["queue_job_id"]


async def test_failed_index_is_shown_and_ends_with_one(command: Command, endpoint: FakeEndpoint) -> None:
    await command.json("endpoints", "create", "shop", endpoint.url)
    endpoint.behaviour = on("INDEX_ENDPOINT", status(500))
    code, out, _ = await command("endpoints", "index", "shop")
    assert code == 1
    assert "The index failed: " in out


async def test_endpoint_that_is_gone_is_listed_by_its_state_until_somebody_resumes_it(
    command: Command, endpoint: FakeEndpoint
) -> None:
    await command.json("endpoints", "create", "shop", endpoint.url)
    endpoint.behaviour = on("INDEX_ENDPOINT", status(410))
    assert (await command("endpoints", "index", "shop"))[0] == 1
    (gone,) = (await command.json("endpoints", "list", "--state", "suspended"))["endpoints"]
    assert gone["slug"] == "shop"
    assert "410" in gone["state_reason"]
    assert (await command.json("endpoints", "list", "--state", "healthy"))["endpoints"] == []

    resumed = await command("endpoints", "resume", gone["id"], "--token", ADMIN_TOKEN)
    assert resumed == (0, "shop is HEALTHY.\n", "")
    (well,) = (await command.json("endpoints", "list", "--state", "healthy"))["endpoints"]
    assert well["slug"] == "shop"
    assert not well.get("state_reason")
    assert (await command("endpoints", "list", "--state", "unwell"))[0] == 2


async def test_request_that_joins_a_waiting_index_says_when_it_begins(
    command: Command, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment_id, api_key = await command.pair.new_environment(
        command.tenant.project_id, environment_type="PRODUCTION", slug="prod"
    )
    endpoint.api_key = api_key
    monkeypatch.setenv("KONGFLOW_TOKEN", command.tenant.service_token)
    monkeypatch.setenv("KONGFLOW_ENVIRONMENT", environment_id)
    await command.json("endpoints", "create", "shop", endpoint.url)
    await command.json("endpoints", "index", "shop")
    await command.json("endpoints", "index", "shop", "--no-wait")
    code, _, err = await command("endpoints", "index", "shop", "--no-wait")
    assert code == 0
    assert "joined an index that is due at " in err
    assert "`kongflow endpoints index shop --force` runs one now" in err
    _, _, err = await command("endpoints", "create", "shop", endpoint.url, "--no-wait")
    assert "joined an index that is due at " in err
    code, out, err = await command("endpoints", "create", "shop", endpoint.url, "--no-wait", "--json")
    waits = json.loads(err)["notice"]
    created = json.loads(out)
    assert waits["reason"] == "INDEX_WAITS"
    assert waits["metadata"] == {"index_id": created["index_id"], "run_time": created["run_time"]}
    assert (await command("endpoints", "index", "shop", "--force"))[0] == 0


async def test_wait_for_an_index_that_is_interrupted_ends_with_a_sentence(
    command: Command, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.commands.endpoints.follow_index", interrupt)
    code, _, err = await command("endpoints", "create", "shop", endpoint.url)
    assert code == 130
    assert "Stopped waiting." in err
    assert "`kongflow endpoints show shop` says what became of it." in err
    code, out, err = await command("endpoints", "index", "shop", "--json")
    assert (code, out, json.loads(err)["error"]["reason"]) == (130, "", "INTERRUPTED")


async def test_delete_asks_unless_told(command: Command, endpoint: FakeEndpoint) -> None:
    await command.json("endpoints", "create", "shop", endpoint.url)
    code, _, err = await command("endpoints", "delete", "shop", "--json")
    assert code == 2
    assert "--yes" in json.loads(err)["error"]["message"]
    assert "Deleted shop." in (await command("endpoints", "delete", "shop", "--yes"))[1]
    assert (await command.json("endpoints", "list"))["endpoints"] == []
    code, _, err = await command("endpoints", "show", "shop")
    assert code == 1
    assert "[NOT_FOUND]" in err


async def test_jobs_of_one_endpoint_are_listed(command: Command, endpoint: FakeEndpoint) -> None:
    await command.json("endpoints", "create", "shop", endpoint.url)
    assert [one["slug"] for one in (await command.json("jobs", "list", "--endpoint", "shop"))["jobs"]] == ["first"]
    code, out, _ = await command("jobs", "list")
    assert code == 0
    assert "ACTIVE" in out


async def test_ledger_is_shown_by_queue_and_by_queue_job(command: Command, endpoint: FakeEndpoint) -> None:
    await command.json("endpoints", "create", "shop", endpoint.url)
    stats = await command.json("queue", "stats")
    assert {queue["queue"] for queue in stats["queues"]} == {
        "QUEUE_DEFAULT",
        "QUEUE_EXECUTION",
        "QUEUE_EVENTS",
        "QUEUE_MAINTENANCE",
    }
    assert "execution" in (await command("queue", "stats"))[1]
    listed = await command.json("queue", "jobs", "--kind", "registerJob", "--state", "completed", "--queue", "default")
    assert len(listed["queue_jobs"]) == 1
    assert len((await command.json("queue", "jobs", "--limit", "1"))["queue_jobs"]) == 1
    assert "indexEndpoint" in (await command("queue", "jobs"))[1]


async def test_tokens_are_created_listed_and_revoked(command: Command) -> None:
    admin = ("--token", ADMIN_TOKEN)
    code, secret, err = await command("tokens", "create", "--kind", "worker", "--name", "fleet", *admin)
    assert code == 0
    assert "shown this once" in err
    assert secret.strip().isascii()
    created = await command.json(
        *("tokens", "create", "--kind", "service", "--name", "shop", "--scope", "read", "--scope", "write"),
        *("--organization", command.tenant.organization_id, "--expires-in-days", "3", *admin),
    )
    assert created["token"]["scopes"] == ["TOKEN_SCOPE_READ", "TOKEN_SCOPE_WRITE"]
    assert "fleet" in (await command("tokens", "list", *admin))[1]
    assert "Revoked shop" in (await command("tokens", "revoke", created["token"]["id"], *admin))[1]
    listed = await command.json("tokens", "list", "--kind", "service", *admin)
    assert created["token"]["id"] not in {one["id"] for one in listed["tokens"]}
    listed = await command.json("tokens", "list", "--kind", "service", "--all", *admin)
    assert created["token"]["id"] in {one["id"] for one in listed["tokens"]}


async def test_token_commands_are_refused_without_an_admin_token(command: Command) -> None:
    code, _, err = await command("tokens", "list")
    assert code == 1
    assert "[PERMISSION_DENIED]" in err


async def test_scopes_are_for_service_tokens_only(command: Command) -> None:
    code, _, err = await command("tokens", "create", "--kind", "worker", "--name", "x", "--scope", "read")
    assert code == 2
    assert "Only a service token" in err


async def test_migrate_tells_and_changes_where_the_database_stands(command: Command) -> None:
    assert "that is the newest" in (await command("migrate", "status"))[1]
    assert (await command.json("migrate", "up"))["is_current"] is True
    code, _, err = await command("migrate", "down", "base", "--json")
    assert code == 2
    assert "--yes" in err


async def test_migrate_takes_an_empty_database_up_and_down(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KONGFLOW_DATABASE_URL", empty_database_url)
    assert await asyncio.to_thread(main, ["migrate", "status"]) == 1
    assert "has no schema yet" in capsys.readouterr().out
    assert await asyncio.to_thread(main, ["migrate", "up"]) == 0
    assert await asyncio.to_thread(main, ["migrate", "down", "base", "--yes"]) == 0
    assert "has no schema yet" in capsys.readouterr().out.splitlines()[-1]
    assert await asyncio.to_thread(main, ["migrate", "down", "nonsense", "--yes"]) == 1
    assert "The database refused: " in capsys.readouterr().err


async def test_migrate_says_whom_it_waited_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KONGFLOW_DATABASE_URL", database_url)
    holder = await asyncpg.connect(database_url)
    try:
        async with holder.transaction():
            await holder.execute("SELECT FROM queue_pauses")
            assert await asyncio.to_thread(main, ["migrate", "down", "0007", "--yes", "--wait-seconds", "0"]) == 1
    finally:
        await holder.close()
    assert "Somebody's long transaction holds a table; nothing was changed." in capsys.readouterr().err


async def test_server_that_is_away_ends_with_three(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KONGFLOW_DATABASE_URL", "postgresql://127.0.0.1:1/none")
    assert await asyncio.to_thread(main, ["queue", "stats", "--server", "127.0.0.1:1", "--token", "any"]) == 3
    assert "KongFlow cannot be reached at 127.0.0.1:1" in capsys.readouterr().err
    assert await asyncio.to_thread(main, ["migrate", "status"]) == 3
    assert "The database cannot be reached." in capsys.readouterr().err
