"""What the sample endpoint offers: a greenhouse with every kind of trigger, one job switched off and one not valid."""

from __future__ import annotations

from typing import Any

TOO_SHORT_INTERVAL_SECONDS = 5


def offer() -> dict[str, Any]:
    """Return the answer to INDEX_ENDPOINT: 12 jobs, 2 sources, 1 dynamic trigger and 1 dynamic schedule."""
    return {
        "jobs": [
            _job("water-plants", "1.4.0", _on_event("soil.dry", moisture=[{"$lt": 20}])),
            _job("open-windows", "1.0.0", _on_event(["air.hot", "air.damp"])),
            _job("welcome-visitor", "2.0.1", _on_event("visitor.came", day=["saturday", "sunday"])),
            _job("daily-report", "1.2.0", _on_cron("30 6 * * *")),
            _job("hourly-reading", "1.0.0", _on_interval(3600)),
            _job("check-heating", "1.0.3", _on_interval(300)),
            _job("unpack-seeds", "0.9.0", _on_event("seeds.delivered", source="supplier.example", shop=["north"])),
            _job("close-for-storm", "1.1.0", _on_event("storm.near", source="weather.example")),
            _job("tend-bed", "1.0.0", {"type": "dynamic", "id": "any-bed"}),
            _job("send-digest", "1.0.0", {"type": "dynamic", "id": "grower-digest"}),
            _job("repaint-signs", "0.1.0", _on_event("signs.faded"), enabled=False),
            _job("count-bees", "1.0.0", _on_interval(TOO_SHORT_INTERVAL_SECONDS)),
        ],
        "sources": [
            _source("supplier.seeds", params={"shop": "north"}, event="seeds.delivered"),
            _source("weather.alerts", params={"region": "coast"}, event="storm.near"),
        ],
        "webhooks": [],
        "dynamicTriggers": [{"id": "any-bed", "jobs": [{"id": "tend-bed", "version": "1.0.0"}]}],
        "dynamicSchedules": [{"id": "grower-digest", "jobs": [{"id": "send-digest", "version": "1.0.0"}]}],
        "httpEndpoints": [],
    }


def _job(slug: str, version: str, trigger: dict[str, Any], *, enabled: bool = True) -> dict[str, Any]:
    rule = trigger.get("rule", {"event": "trigger.scheduled", "source": "trigger.dev"})
    return {
        "id": slug,
        "name": slug.replace("-", " ").capitalize(),
        "version": version,
        "event": {"name": rule["event"], "title": "Event", "source": rule["source"], "icon": "custom-event"},
        "trigger": trigger,
        "integrations": {},
        "startPosition": "latest",
        "enabled": enabled,
        "preprocessRuns": False,
    }


def _on_event(event: str | list[str], *, source: str = "trigger.dev", **payload: list[Any]) -> dict[str, Any]:
    return {"type": "static", "title": event, "rule": {"event": event, "source": source, "payload": payload}}


def _on_cron(cron: str) -> dict[str, Any]:
    return {"type": "scheduled", "schedule": {"type": "cron", "options": {"cron": cron}}}


def _on_interval(seconds: int) -> dict[str, Any]:
    return {"type": "scheduled", "schedule": {"type": "interval", "options": {"seconds": seconds}}}


def _source(key: str, *, params: dict[str, str], event: str) -> dict[str, Any]:
    integration = key.partition(".")[0]
    return {
        "version": "2",
        "channel": "HTTP",
        "key": key,
        "params": params,
        "options": {"event": [event]},
        "integration": {
            "id": integration,
            "metadata": {"id": integration, "name": integration.capitalize()},
            "authSource": "LOCAL",
        },
    }
