"""What the ledger must do, in plain Python: no SQL, no locks, one thing at a time.

Time is counted in whole minutes. A real history lasts seconds, so that what falls due is the same here and there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.queue_job import Priority, Queue

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

RING_ANSWERED_WITHIN: Final = 5
LEASE: Final = 10
LIMIT: Final = 4
MAX_RESCUES: Final = 1
MAX_UNENDED: Final = 2
RETRY_AFTER: Final = 30
UNKNOWN_KIND_DELAY: Final = 1

WAITING: Final = frozenset({"SCHEDULED", "AVAILABLE"})
FINAL: Final = frozenset({"COMPLETED", "DISCARDED", "CANCELLED"})

Place = tuple[Queue, str]


class Outcome(Enum):
    """What becomes of the next attempt of a queue job."""

    SUCCEED = "succeed"
    FAIL = "fail, worth repeating"
    FAIL_FOR_GOOD = "fail for good"
    RETRY_AFTER = "fail, the customer names a time"
    SURPRISE = "raise what no handler names"
    KILL = "kill the server"
    NOTHING_TO_CALL = "find nothing to call for"
    BEGIN_FAILS = "fail before the call"
    FINISH_FAILS = "fail after the effect, before the commit"


BATCH_OUTCOMES: Final = (
    Outcome.SUCCEED,
    Outcome.FAIL,
    Outcome.FAIL_FOR_GOOD,
    Outcome.RETRY_AFTER,
    Outcome.SURPRISE,
    Outcome.KILL,
)
ANSWERS: Final = (*(outcome for outcome in BATCH_OUTCOMES if outcome is not Outcome.KILL), Outcome.FINISH_FAILS)
CALL_OUTCOMES: Final = (*ANSWERS, Outcome.NOTHING_TO_CALL, Outcome.BEGIN_FAILS)


@dataclass
class ModelJob:
    """A queue job as it should be; `run_at` is read from the database and only breaks ties within `due`."""

    name: str
    kind: str
    queue: Queue
    lane: str
    priority: Priority
    max_attempts: int
    state: str
    due: int
    seq: int
    outcome: Outcome
    attempt: int = 0
    rescues: int = 0
    unended: int = 0
    cancel_requested: bool = False
    run_at: float = 0.0
    effects: int = 0
    calls_before: int = 0
    finals: list[str] = field(default_factory=list)

    @property
    def place(self) -> Place:
        return self.queue, self.lane

    @property
    def turn(self) -> tuple[int, float, int]:
        return self.priority.value, self.run_at, self.seq


@dataclass
class ModelLane:
    """An open lane as it should be; `owner` is the number of the call that holds it."""

    state: str
    lease_until: int
    rings: int = 1
    suspect: bool = False
    owner: int | None = None

    @property
    def runs_alone(self) -> bool:
        return self.suspect and self.rings > 1


@dataclass(frozen=True)
class ModelCall:
    """A call to a customer that has begun."""

    number: int
    name: str
    place: Place


class LedgerModel:
    """The whole ledger; each method is one thing that can happen to it."""

    def __init__(self) -> None:
        self.now = 0
        self.jobs: dict[str, ModelJob] = {}
        self.lanes: dict[Place, ModelLane] = {}
        self.pauses: set[tuple[Queue, str | None]] = set()
        self.known_kinds = {"batch", "call"}
        self._owners = 0

    # What is asked.

    def is_paused(self, place: Place) -> bool:
        return place in self.pauses or (place[0], None) in self.pauses

    def in_turn(self, place: Place) -> list[ModelJob]:
        """Return what may be pulled from a lane, first things first."""
        if self.is_paused(place):
            return []
        due = [job for job in self.jobs.values() if job.place == place and job.state == "AVAILABLE"]
        return sorted(due, key=lambda job: job.turn)

    def in_state(self, *states: str) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.state in states]

    # What callers, operators and time do.

    def enqueue(
        self, name: str, *, place: Place, kind: str, priority: Priority, max_attempts: int, delay: int, outcome: Outcome
    ) -> None:
        self.jobs[name] = ModelJob(
            name=name,
            kind=kind,
            queue=place[0],
            lane=place[1],
            priority=priority,
            max_attempts=max_attempts,
            state="SCHEDULED" if delay else "AVAILABLE",
            due=self.now + delay,
            seq=len(self.jobs),
            outcome=outcome,
        )

    def cancel_lane(self, lane: str) -> None:
        for job in self.jobs.values():
            if job.lane == lane and job.state not in FINAL:
                self.cancel(job.name)

    def cancel(self, name: str) -> bool:
        """Cancel one queue job; tell whether that is allowed."""
        job = self.jobs[name]
        if job.state == "RUNNING":
            job.cancel_requested = True
        elif job.state in WAITING:
            job.cancel_requested = True
            self._end(job, "CANCELLED")
        return job.state in {"RUNNING", "CANCELLED"}

    def retry(self, name: str) -> bool:
        """Let a queue job run again, a final one with a fresh set of attempts; tell whether that is allowed."""
        job = self.jobs[name]
        if job.state in {"AVAILABLE", "RUNNING"}:
            return False
        if job.state in FINAL:
            job.calls_before += job.attempt + job.rescues
            job.attempt = job.rescues = job.unended = 0
        job.state, job.due, job.cancel_requested = "AVAILABLE", self.now, False
        return True

    def supersede(self, place: Place) -> None:
        """End what waits in a lane; who supersedes says what follows, so there is no `on_final`."""
        for job in self.jobs.values():
            if job.place == place and job.state in WAITING:
                job.state = "COMPLETED"

    # What relays and sweeps do.

    def ring(self) -> set[Place]:
        """Promote what is due and open every idle lane with work; return the lanes that were opened."""
        for job in self.in_state("SCHEDULED"):
            if job.due <= self.now:
                job.state = "AVAILABLE"
        places = {job.place for job in self.in_state("AVAILABLE")}
        opened = {place for place in places if place not in self.lanes and not self.is_paused(place)}
        for place in opened:
            self.lanes[place] = ModelLane("RUNG", self.now + RING_ANSWERED_WITHIN)
        return opened

    def sweep(self) -> set[Place]:
        """Give back what dead owners held and ring their lanes again; return those lanes."""
        overdue = {place for place, lane in self.lanes.items() if lane.lease_until <= self.now}
        for place in overdue:
            lane = self.lanes[place]
            for job in self.in_state("RUNNING"):
                if job.place == place:
                    self._rescue(job)
            lane.state = "RUNG"
            lane.owner = None
            lane.rings += 1
            lane.lease_until = self.now + RING_ANSWERED_WITHIN
        return overdue

    def _rescue(self, job: ModelJob) -> None:
        ends = "CANCELLED" if job.cancel_requested else "DISCARDED" if job.rescues >= MAX_RESCUES else None
        job.rescues += 1
        if ends:
            self._end(job, ends)
        else:
            job.attempt -= 1
            job.state = "AVAILABLE"

    # What a call back does where only the database is touched.

    def run_batch(self, queue: Queue, names: Iterable[str], *, left: Collection[str], died: bool) -> None:
        """Run lanes; `left` names the queue jobs that the real ledger took, `died` says that its server was killed.

        Which of several lanes' queue jobs make up a batch is the ledger's choice, within the rules checked here.
        """
        rung = [(queue, name) for name in sorted(set(names)) if self._is_rung((queue, name))]
        marked = [place for place in rung if self.lanes[place].rings > 1 and not self.lanes[place].suspect]
        suspects = [place for place in rung if self.lanes[place].runs_alone]
        together = [place for place in rung if place not in suspects]
        for place in marked:
            self._mark(self.lanes[place])
        candidates = {place: self.in_turn(place) for place in together}
        taken = [job for place in together for job in candidates[place] if job.name in left]
        if died and not taken and any(candidates.values()):
            assert any(job.outcome is Outcome.KILL for jobs in candidates.values() for job in jobs)
            return
        self._check_choice(candidates, taken)
        for job in taken:
            assert job.outcome is not Outcome.KILL or job.kind not in self.known_kinds, f"{job.name} kills its server"
            self._end_attempt(job, job.outcome)
        for place in together:
            del self.lanes[place]
        has_died = False
        for place in suspects:
            has_died = self._run_suspect(place)
            if has_died:
                break
        assert died == has_died

    def _is_rung(self, place: Place) -> bool:
        return place in self.lanes and self.lanes[place].state == "RUNG"

    @staticmethod
    def _mark(lane: ModelLane) -> None:
        lane.suspect, lane.rings = True, 1

    @staticmethod
    def _check_choice(candidates: dict[Place, list[ModelJob]], taken: list[ModelJob]) -> None:
        """Check that a batch is as large as it may be, fair, and takes what is first in each lane."""
        due = sum(len(jobs) for jobs in candidates.values())
        assert len(taken) == min(due, LIMIT), f"{len(taken)} of {due} were taken"
        for place, jobs in candidates.items():
            of_lane = [job for job in taken if job.place == place]
            assert [job.name for job in of_lane] == [job.name for job in jobs[: len(of_lane)]], "out of turn"
            assert len(of_lane) >= min(len(jobs), LIMIT // len(candidates)), f"{place} got less than its share"

    def _run_suspect(self, place: Place) -> bool:
        """Run a lane, more of it after each success; tell whether its server was killed meanwhile."""
        self._take(place)
        ended, together = 0, 1
        while ended < LIMIT and (due := self._in_turn_after_poison(place)):
            first = due[: min(together, LIMIT - ended)]
            group = list(takewhile(lambda job: not job.unended, first)) or first[:1]
            if any(job.outcome is Outcome.KILL and job.kind in self.known_kinds for job in group):
                for job in group:
                    job.unended += 1
                return True
            for job in group:
                self._end_attempt(job, job.outcome)
            ended += len(group)
            together *= 2
        del self.lanes[place]
        return False

    def _in_turn_after_poison(self, place: Place) -> list[ModelJob]:
        while (due := self.in_turn(place)) and due[0].unended >= MAX_UNENDED:
            due[0].attempt += 1
            self._end(due[0], "DISCARDED")
        return due

    # What a call back does where a customer is called.

    def begin_call(self, place: Place) -> ModelCall | None:
        """Take a lane and begin what is first in it; None means that no call was made."""
        if not self._is_rung(place):
            return None
        lane = self.lanes[place]
        due = self._in_turn_after_poison(place) if lane.runs_alone else self.in_turn(place)
        lane.suspect, lane.rings = False, 1
        if (
            due
            and due[0].kind in self.known_kinds
            and due[0].outcome not in {Outcome.NOTHING_TO_CALL, Outcome.BEGIN_FAILS}
        ):
            due[0].state = "RUNNING"
            due[0].attempt += 1
            return ModelCall(self._take(place), due[0].name, place)
        if due:
            self._end_attempt(due[0], due[0].outcome)
        del self.lanes[place]
        return None

    def end_call(self, call: ModelCall) -> None:
        """Write what a call came to, unless a newer owner has its lane."""
        if not self.holds(call):
            return
        del self.lanes[call.place]
        job = self.jobs[call.name]
        if job.cancel_requested:
            self._end(job, "CANCELLED")
        else:
            self._end_attempt(job, job.outcome)

    def holds(self, call: ModelCall) -> bool:
        lane = self.lanes.get(call.place)
        return lane is not None and lane.owner == call.number

    def renew(self, calls: Iterable[ModelCall]) -> None:
        for call in calls:
            if self.holds(call):
                self.lanes[call.place].lease_until = self.now + LEASE

    # How attempts end.

    def _take(self, place: Place) -> int:
        self._owners += 1
        lane = self.lanes[place]
        lane.state, lane.owner, lane.lease_until = "RUNNING", self._owners, self.now + LEASE
        return self._owners

    def _end_attempt(self, job: ModelJob, outcome: Outcome) -> None:
        was_running = job.state == "RUNNING"
        if job.kind not in self.known_kinds:
            self._wait(job, UNKNOWN_KIND_DELAY)
            return
        if not was_running:
            job.attempt += 1
        backoff = 2**job.attempt
        match outcome:
            case Outcome.SUCCEED | Outcome.NOTHING_TO_CALL:
                job.effects += outcome is Outcome.SUCCEED
                self._end(job, "COMPLETED")
            case Outcome.FAIL_FOR_GOOD:
                self._end(job, "DISCARDED")
            case _ if job.attempt >= job.max_attempts:
                self._end(job, "DISCARDED")
            case Outcome.RETRY_AFTER:
                self._wait(job, max(backoff, RETRY_AFTER))
            case _:
                self._wait(job, backoff)

    def _wait(self, job: ModelJob, minutes: int) -> None:
        job.state, job.due = "SCHEDULED", self.now + minutes

    @staticmethod
    def _end(job: ModelJob, state: str) -> None:
        job.state = state
        job.finals.append(state)

    def finals(self) -> Counter[tuple[str, str]]:
        """Count what `on_final` should have been told."""
        return Counter((job.name, state) for job in self.jobs.values() for state in job.finals)
