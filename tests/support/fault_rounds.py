"""Runs a schedule round by round, and counts."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from tests.support.event_load import EventLoad
from tests.support.eventually import eventually
from tests.support.fault_injection import Injector
from tests.support.fault_load import IndexLoad
from tests.support.fault_schedule import schedule
from tests.support.fault_stack import running_stack
from tests.support.invariants import check
from tests.support.persistent_caller import PersistentCaller

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.fault_schedule import Fault
    from tests.support.fault_stack import FaultStack

RECOVERY_LIMIT: Final = timedelta(seconds=15)
_ASKING: Final = timedelta(seconds=9)
_PATIENCE: Final = timedelta(seconds=60)
_SUSPICIOUS: Final = timedelta(seconds=6)
_SHOWN_EVERY: Final = timedelta(seconds=3)


@dataclass(frozen=True, slots=True)
class LaneSize:
    """How much one lane of the random schedule does."""

    rounds: int
    faults_per_round: int
    large_endpoints: int
    jobs: int
    small_endpoints: int
    requests_per_endpoint: int
    events: int


@dataclass
class LaneCounts:
    """What one lane did; the lists say what is wrong."""

    seed: int
    queue_jobs: int = 0
    effects: int = 0
    events: int = 0
    runs: int = 0
    faults: int = 0
    crashes: int = 0
    lost: int = 0
    doubled_effects: int = 0
    calls: int = 0
    doubled_calls: int = 0
    rescues: int = 0
    poisoned: int = 0
    worst_recovery_seconds: float = 0.0
    seconds: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the numbers."""
        return {name: value for name, value in asdict(self).items() if isinstance(value, int | float)}

    def text(self) -> str:
        """Return all of it, one line each."""
        return "\n".join(f"{name.replace('_', ' '):>24}: {value}" for name, value in asdict(self).items())


async def run_lane(seed: int, size: LaneSize, directory: Path) -> LaneCounts:
    """Run the schedule of `seed` on a stack of its own, and stop at the first round that leaves something wrong."""
    began = time.monotonic()
    async with running_stack(directory) as stack:
        caller = PersistentCaller(stack, seed=seed)
        load = IndexLoad(
            stack, caller, large=size.large_endpoints, jobs=size.jobs, small=size.small_endpoints, seed=seed
        )
        event_load = EventLoad(stack, caller, seed=seed)
        await load.open()
        await event_load.open()
        await stack.settle()
        lane = _Lane(
            stack, caller, load, event_load, Injector(stack, load, evidence=directory / "evidence"), LaneCounts(seed)
        )
        rounds = schedule(seed, rounds=size.rounds, faults_per_round=size.faults_per_round)
        for number, faults in enumerate(rounds, start=1):
            _say(seed, number, faults)
            await lane.run(faults, size)
            if lane.counts.wrong:
                break
    lane.counts.seconds = round(time.monotonic() - began, 1)
    return lane.counts


@dataclass(frozen=True, slots=True)
class _Lane:
    stack: FaultStack
    caller: PersistentCaller
    load: IndexLoad
    event_load: EventLoad
    injector: Injector
    counts: LaneCounts

    async def run(self, faults: list[Fault], size: LaneSize) -> None:
        """Run one round and check what it left."""
        counts = self.counts
        async with asyncio.TaskGroup() as group:
            group.create_task(self.load.run(during=_ASKING, requests_per_endpoint=size.requests_per_endpoint))
            group.create_task(self.event_load.run(during=_ASKING, events=size.events))
            group.create_task(self.injector.run(faults))
        counts.faults, counts.crashes = self.injector.done, self.injector.crashes
        counts.statuses = dict(self.caller.statuses)
        try:
            recovery = await _recovery(self.stack)
            await eventually(self.stack.is_well, within=_PATIENCE)
            await self.stack.settle(within=_PATIENCE)
        except AssertionError as error:
            counts.lost += 1
            counts.wrong.append(f"I4, I9: {error}\n{self.stack.errors()}")
            return
        print(f"  recovered in {recovery.total_seconds():.1f} s")
        counts.worst_recovery_seconds = max(counts.worst_recovery_seconds, round(recovery.total_seconds(), 1))
        findings = await check(self.stack, self.load, self.event_load, mistakes=self.caller.mistakes)
        counts.queue_jobs, counts.effects, counts.rescues = findings.queue_jobs, findings.effects, findings.rescues
        counts.events, counts.runs = len(self.event_load.sent), findings.runs
        counts.calls, counts.doubled_calls, counts.poisoned = findings.calls, findings.doubled_calls, findings.poisoned
        counts.lost, counts.doubled_effects = len(findings.lost), len(findings.doubled)
        counts.wrong += findings.wrong
        if self.injector.evidence.exists():
            counts.wrong.append("row 21: a forged message ran code")
        if counts.wrong:
            counts.wrong.append(self.stack.errors())


async def _recovery(stack: FaultStack) -> timedelta:
    """Wait until all that is due now has had its turn; return how long that took after the round's last fault (I4).

    What takes suspiciously long is shown while it waits: afterwards nothing tells what it waited for.
    """
    due: list[Any] = [
        row["id"]
        for row in await stack.postgres.fetch(
            "SELECT id FROM queue_jobs WHERE finalized_at IS NULL AND queue <> 'maintenance'"
            " AND kind <> 'unknownToAll' AND run_at <= clock_timestamp()"
        )
    ]
    healed = time.monotonic()
    shown_at = _SUSPICIOUS.total_seconds()
    waiting = "SELECT count(*) FROM queue_jobs WHERE id = ANY($1) AND finalized_at IS NULL AND run_at <= $2"
    now = await stack.postgres.value("SELECT clock_timestamp()")

    async def had_its_turn() -> bool:
        nonlocal shown_at
        if not await stack.postgres.value(waiting, due, now):
            return True
        passed = time.monotonic() - healed
        if passed > shown_at:
            shown_at += _SHOWN_EVERY.total_seconds()
            print(f"  after {passed:.1f} s:", *await stack.still_open(due, now), sep="\n    ", flush=True)
        return False

    await eventually(had_its_turn, within=_PATIENCE)
    return timedelta(seconds=time.monotonic() - healed)


def _say(seed: int, number: int, faults: list[Fault]) -> None:
    print(f"seed {seed}, round {number}:", *faults, sep="\n  ", flush=True)
