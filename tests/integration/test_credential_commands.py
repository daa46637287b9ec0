"""`kongflow environments` and `kongflow tokens`: what replaces a credential, and what is shown of it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.integration.test_cli import Command
from tests.support.fake_endpoint import FakeEndpoint
from tests.support.pair import ADMIN_TOKEN, running_pair
from tests.support.signed_calls import signed_by

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

ADMIN = ("--token", ADMIN_TOKEN)


@pytest.fixture
async def command(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Command]:
    # The services run in this process: their log must not stand between the lines of the command.
    with capture_logs():
        async with running_pair(database_url=database_url, redis_url=redis_url, workers=0) as pair:
            tenant = await pair.new_tenant()
            monkeypatch.setenv("KONGFLOW_SERVER", pair.grpc_target)
            monkeypatch.setenv("KONGFLOW_TOKEN", tenant.service_token)
            monkeypatch.setenv("COLUMNS", "200")
            yield Command(pair, tenant, capsys)


async def test_key_is_replaced_at_once_and_shown_once(command: Command) -> None:
    code, out, err = await command("environments", "rotate-key", command.tenant.environment_id, *ADMIN)

    assert (code, err) == (0, "The new API key of dev, shown this once:\n")
    key = out.strip()
    assert key.startswith("tr_dev_")
    assert (await command("environments", "list", "--token", key))[0] == 0
    code, _, err = await command("environments", "list", "--token", command.tenant.api_key)
    assert (code, "[UNAUTHENTICATED]" in err) == (1, True)
    code, out, _ = await command("environments", "list")
    assert (code, key in out) == (0, False)


async def test_both_keys_are_accepted_while_a_rotation_overlaps(command: Command) -> None:
    rotated = await command.json(
        *("environments", "rotate-key", command.tenant.environment_id, "--overlap-hours", "0.5", *ADMIN)
    )

    for key in (rotated["api_key"], command.tenant.api_key):
        listed = await command.json("environments", "list", "--token", key)
        assert [one["id"] for one in listed["environments"]] == [command.tenant.environment_id]


async def test_signing_secret_is_replaced_and_signs_beside_the_one_before_for_a_day(
    command: Command, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    rotate = ("environments", "rotate-signing-secret", command.tenant.environment_id, *ADMIN)
    code, out, err = await command(*rotate, "--overlap-hours", "0")
    assert (code, err) == (0, "The new signing secret of dev, shown this once:\n")
    rotated = await command.json(*rotate)
    assert "previous_expire_time" in rotated
    lasts = await connection.fetchval(
        "SELECT previous_signing_secret_expires_at - updated_at FROM runtime_environments WHERE slug = 'dev'"
    )
    assert lasts == timedelta(days=1)
    async with FakeEndpoint(api_key=command.tenant.api_key, slug="shop") as endpoint:
        await command.json("endpoints", "create", "shop", endpoint.url, "--no-wait", "--token", command.tenant.api_key)
    assert signed_by(endpoint.journal[0], rotated["signing_secret"], out.strip())


async def test_only_administrators_replace_credentials_and_the_overlap_has_a_limit(command: Command) -> None:
    for rotation in ("rotate-key", "rotate-signing-secret"):
        code, _, err = await command("environments", rotation, command.tenant.environment_id)
        assert (code, "[PERMISSION_DENIED]" in err) == (1, True)
        code, _, err = await command(
            *("environments", rotation, command.tenant.environment_id, "--overlap-hours", "169", *ADMIN)
        )
        assert (code, "--overlap-hours" in err) == (2, True)


async def test_secret_of_a_token_is_replaced_at_once_or_with_an_overlap(command: Command) -> None:
    made = await command.json(
        *("tokens", "create", "--kind", "service", "--name", "shop"),
        *("--organization", command.tenant.organization_id, *ADMIN),
    )
    rotate = ("tokens", "rotate", made["token"]["id"], *ADMIN)

    second = (await command.json(*rotate, "--overlap-hours", "1"))["secret"]
    assert [(await command("environments", "list", "--token", each))[0] for each in (made["secret"], second)] == [0, 0]

    code, out, err = await command(*rotate)
    assert (code, err) == (0, "The new secret of shop, shown this once:\n")
    accepted = [(await command("environments", "list", "--token", each))[0] for each in (second, out.strip())]
    assert accepted == [1, 0]


async def test_list_says_when_an_api_key_was_last_used(
    command: Command, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    (never,) = (await command.json("environments", "list"))["environments"]
    assert "api_key_last_use_time" not in never
    await connection.execute(
        "UPDATE runtime_environments SET api_key_last_used_at = '2026-05-04 03:02:01+00' WHERE slug = 'dev'"
    )

    (used,) = (await command.json("environments", "list"))["environments"]
    assert used["api_key_last_use_time"] == "2026-05-04T03:02:01Z"
    assert "2026-05-04 03:02" in (await command("environments", "list"))[1]
