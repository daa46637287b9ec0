"""A random schedule of faults that its seed repeats."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# How long each kind lasts, in seconds. A lease is 10 s: what is frozen for longer has lost its work when it wakes.
KINDS: Final[Mapping[str, tuple[float, float]]] = {
    "server_killed": (0, 2),
    "server_frozen_past_its_lease": (11, 12.5),
    "server_frozen": (0.5, 3),
    "server_restarted": (0, 0.5),
    "server_crashes": (0, 0),
    "all_servers_killed": (0.5, 2),
    "worker_killed": (0, 3),
    "worker_frozen": (2, 7),
    "worker_restarted": (0, 0.5),
    "worker_crashes": (0, 0),
    "all_workers_gone": (2, 6),
    "redis_restarts_empty": (0, 2),
    "redis_flushed": (0, 0),
    "redis_frozen": (1, 6),
    "redis_is_a_black_hole": (2, 6),
    "redis_is_a_black_hole_to_workers": (2, 6),
    "redis_is_slow": (2, 4),
    "redis_drips": (1, 2),
    "redis_is_cut": (0, 1),
    "redis_is_full": (2, 4),
    "redis_evicts": (2, 4),
    "postgres_restarts": (0, 1),
    "postgres_ends_sessions": (0, 0),
    "postgres_is_silent": (1, 6),
    "postgres_is_cut": (0, 2),
    "postgres_is_cut_in_an_answer": (0.5, 1.5),
    "postgres_is_slow": (1, 3),
    "lock_is_held": (1, 4),
    "database_gives_way": (1, 3),
    "calls_back_are_cut": (0, 1),
    "calls_back_are_lost": (2, 4),
    "calls_back_are_slow": (1, 3),
    "endpoints_are_cut": (0, 1),
    "endpoints_hang": (2, 6),
    "endpoints_fail": (0.5, 2),
    "endpoints_drip": (1, 2),
    "forged_messages": (0, 0),
    "doubled_messages": (0, 0),
    "unknown_kind": (0, 0),
    "endpoint_deleted": (0, 0),
}

SERVER_PLACES: Final = (
    "before_commit.callers",
    "before_commit.call backs",
    "before_commit.relay",
    "after_commit.callers",
    "after_commit.call backs",
    "after_commit.relay",
    "after_ring_before_publish",
    "after_rescue_before_publish",
    "after_begin_before_call",
    "after_endpoint_answered",
    "before_effect.registerJob",
    "before_effect.deliverEvent",
    "before_effect.events.invokeDispatcher",
)
WORKER_PLACES: Final = (
    "after_pop.default",
    "after_pop.events",
    "after_pop.execution",
    "before_call_back.default",
    "before_call_back.events",
    "before_call_back.execution",
    "after_call_back.default",
    "after_call_back.events",
    "after_call_back.execution",
)

_ROUND: Final = timedelta(seconds=7)

# A crash has many places, each a fault of its own.
_CARDS: Final = (*KINDS, *("server_crashes",) * 7, *("worker_crashes",) * 3)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a round: it begins `at` after the round's start; `target` chooses among several."""

    kind: str
    at: timedelta
    lasts: timedelta
    target: int
    place: str = ""

    def __str__(self) -> str:
        where = f" at {self.place}" if self.place else ""
        return (
            f"{self.at.total_seconds():4.1f} s: {self.kind}{where} #{self.target}, {self.lasts.total_seconds():.1f} s"
        )


def schedule(seed: int, *, rounds: int, faults_per_round: int) -> list[list[Fault]]:
    """Return the faults of each round in the order they begin; every kind comes once before any comes twice."""
    chance = random.Random(seed)  # noqa: S311 - a seed repeats it
    kinds = _deck(chance, _CARDS)
    server_places, worker_places = _deck(chance, SERVER_PLACES), _deck(chance, WORKER_PLACES)
    drawn = []
    for _ in range(rounds):
        faults = []
        for _ in range(faults_per_round):
            kind = next(kinds)
            place = ""
            if kind == "server_crashes":
                place = f"{next(server_places)}:{chance.randint(1, 2)}"
            elif kind == "worker_crashes":
                place = f"{next(worker_places)}:{chance.randint(1, 2)}"
            at = timedelta(seconds=round(chance.uniform(0, _ROUND.total_seconds()), 2))
            lasts = timedelta(seconds=round(chance.uniform(*KINDS[kind]), 2))
            faults.append(Fault(kind, at, lasts, chance.randrange(1_000), place))
        drawn.append(sorted(faults, key=lambda fault: fault.at))
    return drawn


def _deck(chance: random.Random, cards: Sequence[str]) -> Iterator[str]:
    while True:
        yield from chance.sample(cards, len(cards))
