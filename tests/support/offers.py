"""What an endpoint may offer, for tests: each function returns one item as an SDK sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def static_trigger(event: str | list[str] = "user.created", **rule: Any) -> dict[str, Any]:
    return {"type": "static", "title": event, "rule": {"event": event, "source": "trigger.dev", **rule}}


def interval_trigger(seconds: int = 60) -> dict[str, Any]:
    return {"type": "scheduled", "schedule": {"type": "interval", "options": {"seconds": seconds}}}


def cron_trigger(cron: str = "*/5 * * * *") -> dict[str, Any]:
    return {"type": "scheduled", "schedule": {"type": "cron", "options": {"cron": cron}}}


def dynamic_trigger_use(slug: str = "on-demand") -> dict[str, Any]:
    return {"type": "dynamic", "id": slug}


def integration(slug: str = "acme", auth_source: str = "LOCAL", name: str = "Acme") -> dict[str, Any]:
    return {"id": slug, "metadata": {"id": slug, "name": name}, "authSource": auth_source}


def job(slug: str = "hello", version: str = "1.0.0", **changes: Any) -> dict[str, Any]:
    return {
        "id": slug,
        "name": slug.title(),
        "version": version,
        "event": {"name": "user.created", "title": "Event", "source": "trigger.dev", "icon": "custom-event"},
        "trigger": static_trigger(),
        "integrations": {},
        "startPosition": "latest",
        "enabled": True,
        "preprocessRuns": False,
        **changes,
    }


def source(key: str = "acme.room-http", **changes: Any) -> dict[str, Any]:
    return {
        "version": "2",
        "channel": "HTTP",
        "key": key,
        "params": {"room": "lobby"},
        "options": {"event": ["acme.ping"]},
        "integration": integration(),
        "registerSourceJob": {"id": key, "version": "0.1.0"},
        **changes,
    }


def dynamic(slug: str = "on-demand", jobs: Sequence[tuple[str, str]] = (), **changes: Any) -> dict[str, Any]:
    return {"id": slug, "jobs": [{"id": job_slug, "version": version} for job_slug, version in jobs], **changes}


def answer(**lists: Any) -> dict[str, Any]:
    return {"jobs": [], "sources": [], "dynamicTriggers": [], "dynamicSchedules": [], **lists}
