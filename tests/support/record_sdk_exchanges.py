"""Records what the real SDK app answers, for the contract tests: `python -m tests.support.record_sdk_exchanges`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

import aiohttp

from tests.support.sdk_app import API_KEY, CLIENT_ID, running_sdk_app

RECORDING: Final = Path(__file__).resolve().parents[1] / "contract" / "recorded" / "sdk-2.3.18.json"

_ANOTHER_KEY: Final = "tr_dev_Another000000000000A"
_RUN: Final = {
    "event": {"id": "event-1", "name": "any", "payload": {}, "timestamp": "2026-05-04T03:02:01.000Z"},
    "job": {"id": "nightly-count", "version": "2.0.1"},
    "run": {"id": "run-1", "isTest": False, "startedAt": "2026-05-04T03:02:01.000Z"},
    "environment": {"id": "env_1", "slug": "dev", "type": "DEVELOPMENT"},
    "organization": {"id": "org_1", "title": "Books", "slug": "books"},
}
_REQUESTS: Final[tuple[tuple[str, dict[str, str], Any], ...]] = (
    ("ping", {"x-trigger-action": "PING", "x-trigger-endpoint-id": CLIENT_ID}, None),
    ("ping with another slug", {"x-trigger-action": "PING", "x-trigger-endpoint-id": "library"}, None),
    (
        "ping with another key",
        {"x-trigger-action": "PING", "x-trigger-endpoint-id": CLIENT_ID, "x-trigger-api-key": _ANOTHER_KEY},
        None,
    ),
    ("validate", {"x-trigger-action": "VALIDATE"}, None),
    ("index", {"x-trigger-action": "INDEX_ENDPOINT"}, None),
    ("unknown action", {"x-trigger-action": "DANCE"}, None),
    ("initialize trigger", {"x-trigger-action": "INITIALIZE_TRIGGER"}, {"id": "any-depot", "params": {"depot": "a"}}),
    ("initialize unknown trigger", {"x-trigger-action": "INITIALIZE_TRIGGER"}, {"id": "none", "params": {}}),
    ("execute with a bad body", {"x-trigger-action": "EXECUTE_JOB"}, {}),
    ("execute unknown job", {"x-trigger-action": "EXECUTE_JOB"}, {**_RUN, "job": {"id": "none", "version": "1.0.0"}}),
)


async def record() -> list[dict[str, Any]]:
    """Return every exchange with a fresh app, without the headers that differ from run to run."""
    exchanges: list[dict[str, Any]] = []
    with running_sdk_app() as app:
        async with aiohttp.ClientSession(headers={"x-trigger-version": "2023-09-29"}) as session:
            for name, headers, body in _REQUESTS:
                sent = {"x-trigger-api-key": API_KEY, **headers}
                async with session.post(app.url, headers=sent, json=body) as response:
                    exchanges.append(
                        {
                            "name": name,
                            "status": response.status,
                            "headers": {
                                key: value
                                for key, value in response.headers.items()
                                if key.lower() in {"content-type", "trigger-version", "trigger-sdk-version"}
                            },
                            "body": await response.text(),
                        }
                    )
    return exchanges


if __name__ == "__main__":
    RECORDING.parent.mkdir(parents=True, exist_ok=True)
    RECORDING.write_text(json.dumps(asyncio.run(record()), indent=1, ensure_ascii=False) + "\n")
