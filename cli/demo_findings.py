"""What the demo must find, number by number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

Finding = int | str
Findings = Mapping[str, Finding]

SAMPLE_FINDINGS: Final[Findings] = {
    "index": "PARTIALLY_SUCCEEDED",
    "index jobs": 10,
    "index sources": 2,
    "index dynamic_triggers": 1,
    "index dynamic_schedules": 1,
    "index disabled_jobs": 1,
    "index failed_items": 1,
    "index unchanged_items": 0,
    "item REGISTERED": 14,
    "item DISABLED": 1,
    "item REFUSED": 1,
    "catalog jobs": 10,
    "catalog sources": 2,
    "catalog dynamic_triggers": 2,
    "catalog schedules": 3,
    "ledger indexEndpoint COMPLETED": 1,
    "ledger registerJob COMPLETED": 10,
    "ledger registerSource COMPLETED": 2,
    "ledger registerDynamicTrigger COMPLETED": 1,
    "ledger registerDynamicSchedule COMPLETED": 1,
    "ledger deliverEvent COMPLETED": 3,
    "ledger events.invokeDispatcher COMPLETED": 2,
    "event DELIVERED": 3,
    "run of water-plants": 1,
    "run of open-windows": 1,
    "verdict MATCHED": 2,
    "verdict FILTERED": 1,
    "no run because": 'payload.day must be one of "saturday", "sunday" and is "monday"',
    "second item UNCHANGED": 14,
    "second item DISABLED": 1,
    "second item REFUSED": 1,
}
# The SDK adds two internal jobs of its own, which register sources: they are items and in the catalog, but not counted.
SDK_FINDINGS: Final[Findings] = {
    "index": "SUCCEEDED",
    "index jobs": 7,
    "index sources": 1,
    "index dynamic_triggers": 1,
    "index dynamic_schedules": 1,
    "index disabled_jobs": 1,
    "index failed_items": 0,
    "index unchanged_items": 0,
    "item REGISTERED": 12,
    "item DISABLED": 1,
    "catalog jobs": 9,
    "catalog sources": 1,
    "catalog dynamic_triggers": 2,
    "catalog schedules": 2,
    "ledger indexEndpoint COMPLETED": 1,
    "ledger registerJob COMPLETED": 9,
    "ledger registerSource COMPLETED": 1,
    "ledger registerDynamicTrigger COMPLETED": 1,
    "ledger registerDynamicSchedule COMPLETED": 1,
    "ledger deliverEvent COMPLETED": 3,
    "ledger events.invokeDispatcher COMPLETED": 2,
    "event DELIVERED": 3,
    "run of comet-seen": 1,
    "run of close-dome": 1,
    "verdict MATCHED": 2,
    "verdict FILTERED": 1,
    "no run because": "payload.magnitude must be $lt 6 and is 9.5",
    "second item UNCHANGED": 12,
    "second item DISABLED": 1,
}


def differences(found: Findings, expected: Findings) -> list[str]:
    """Return a phrase for everything that is missing, too much or another number; empty when all is as it must be."""
    return [
        f"{name} is {found.get(name, 'absent')} and must be {expected.get(name, 'absent')}"
        for name in sorted({*found, *expected})
        if found.get(name) != expected.get(name)
    ]
