"""What must hold after every fault, checked by SQL, by the endpoints' journal and by what callers were told."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from services.endpoints.store.postgres import DEFAULT_POOLS
from tests.support.endpoint_farm import MARKER
from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.support.event_load import EventLoad
    from tests.support.fault_load import IndexLoad
    from tests.support.fault_stack import FaultStack

# What may be held when nothing happens: the pools of both servers, and what a process opens.
MOST_CONNECTIONS: Final = 2 * sum(settings.max_size for settings in DEFAULT_POOLS.values())
MOST_FILES: Final = 200
_SESSIONS_END_WITHIN: Final = timedelta(seconds=15)
MOST_MEMORY_BYTES: Final = 600 * 1024 * 1024

# Each query names what breaks an invariant; no rows means that it holds.
LOST: Final[Mapping[str, str]] = {
    "I4: a queue job is not final": """
        SELECT id, kind, state FROM queue_jobs
        WHERE finalized_at IS NULL AND queue <> 'maintenance' AND kind <> 'unknownToAll'
    """,
    # What nobody knows falls due again and again, and opens its lane for a moment.
    "I4: a lane stays open": """
        SELECT queue, lane, state FROM queue_lanes
        WHERE queue <> 'maintenance' AND NOT EXISTS (
            SELECT FROM queue_jobs
            WHERE queue_jobs.queue = queue_lanes.queue AND queue_jobs.lane = queue_lanes.lane
                AND kind = 'unknownToAll' AND finalized_at IS NULL
        )
    """,
    "I1: an index did not end with its queue job": """
        SELECT endpoint_indexes.id, endpoint_indexes.state, queue_jobs.state AS queue_job
        FROM endpoint_indexes LEFT JOIN queue_jobs ON queue_jobs.id = endpoint_indexes.queue_job_id
        WHERE queue_jobs.id IS NULL
            OR endpoint_indexes.state NOT IN ('SUCCEEDED', 'PARTIALLY_SUCCEEDED', 'FAILED')
    """,
    "I1: an item never ended": """
        SELECT index_id, key, state FROM endpoint_index_items WHERE state = 'PENDING'
    """,
    "I1: a registered item has no effect": """
        SELECT items.index_id, items.key
        FROM endpoint_index_items AS items
        JOIN endpoint_indexes AS indexes ON indexes.id = items.index_id
        JOIN jobs ON jobs.slug = items.key
        JOIN job_versions ON job_versions.job_id = jobs.id
        WHERE items.state IN ('REGISTERED', 'CHANGED') AND items.kind = 'JOB'
            AND NOT EXISTS (
                SELECT FROM audit_effects AS effect
                WHERE effect.job_version_id = job_versions.id AND effect.sequence = indexes.sequence
            )
    """,
    "I1: an event was not delivered": "SELECT id, state, deliver_at FROM events WHERE state <> 'DELIVERED'",
    "I2: an event was not given to as many as it says": """
        SELECT events.id, events.match_count, count(event_invocations.dispatcher_id)
        FROM events LEFT JOIN event_invocations ON event_invocations.event_record_id = events.id
        GROUP BY 1, 2 HAVING count(event_invocations.dispatcher_id) <> events.match_count
    """,
    "I2: an event that was given made no run": """
        SELECT event_record_id, dispatcher_id, state, reason, run_count
        FROM event_invocations WHERE state <> 'COMPLETED' OR run_count <> 1
    """,
    "I2: a run's number is missing": """
        SELECT job_id, count(*), max(number) FROM job_runs GROUP BY 1 HAVING count(*) <> max(number)
    """,
    "I1: an endpoint does not have what its newest index offered": """
        SELECT newest.endpoint_id, newest.sequence, job_versions.index_sequence, count(*)
        FROM (
            SELECT DISTINCT ON (endpoint_id) id, endpoint_id, sequence, data
            FROM endpoint_indexes
            WHERE state IN ('SUCCEEDED', 'PARTIALLY_SUCCEEDED')
            ORDER BY endpoint_id, sequence DESC
        ) AS newest
        JOIN job_versions ON job_versions.endpoint_id = newest.endpoint_id
        JOIN jobs ON jobs.id = job_versions.job_id
        JOIN endpoint_index_items AS items ON items.index_id = newest.id AND items.key = jobs.slug
        WHERE items.state IN ('REGISTERED', 'CHANGED') AND (
            job_versions.index_sequence <> newest.sequence
            OR job_versions.event_specification ->> 'title' <> newest.data -> 'jobs' -> 0 -> 'event' ->> 'title'
        )
        GROUP BY 1, 2, 3
    """,
}
DOUBLED: Final[Mapping[str, str]] = {
    "I5: an effect was written twice": """
        SELECT job_version_id, sequence, count(*) FROM audit_effects GROUP BY 1, 2 HAVING count(*) > 1
    """,
    "I5: an older index wrote over a newer one": """
        SELECT job_version_id, sequence, earlier FROM audit_effects WHERE earlier >= sequence
    """,
    "I2: an event that was given made more than one run": """
        SELECT event_record_id, dispatcher_id, count(*) FROM job_runs GROUP BY 1, 2 HAVING count(*) > 1
    """,
    "I2: a run of something that no event was given to": """
        SELECT job_runs.id FROM job_runs
        LEFT JOIN event_invocations USING (event_record_id, dispatcher_id)
        WHERE event_invocations.event_record_id IS NULL
    """,
    "I5: a queue job ended twice, or came back from its end": """
        SELECT queue_job_id, array_agg(before || ' > ' || after) FROM audit_ends GROUP BY 1 HAVING count(*) > 1
    """,
    "I5: a superseded item took effect": """
        SELECT items.index_id, items.key
        FROM endpoint_index_items AS items
        JOIN endpoint_indexes AS indexes ON indexes.id = items.index_id
        JOIN jobs ON jobs.slug = items.key
        JOIN job_versions ON job_versions.job_id = jobs.id
        JOIN audit_effects AS effect
            ON effect.job_version_id = job_versions.id AND effect.sequence = indexes.sequence
        WHERE items.state = 'SUPERSEDED'
    """,
}
LIMITS: Final[Mapping[str, str]] = {
    "I4: an event was delivered before its time": "SELECT id FROM events WHERE delivered_at < deliver_at",
    "I6: more attempts than allowed": "SELECT id, attempt, max_attempts FROM queue_jobs WHERE attempt > max_attempts",
    "I6: rescued too often": "SELECT id, rescues FROM queue_jobs WHERE rescues > 11",
    "I4: a registration failed for good": """
        SELECT id, kind, errors FROM queue_jobs WHERE state = 'DISCARDED' AND kind <> 'indexEndpoint'
    """,
    "row 22: an unknown kind was dropped or counted": """
        SELECT id, state, attempt FROM queue_jobs
        WHERE kind = 'unknownToAll' AND (state NOT IN ('AVAILABLE', 'SCHEDULED', 'CANCELLED') OR attempt > 0)
    """,
    "I3: rows of an endpoint that is gone": """
        SELECT id FROM job_versions WHERE endpoint_id NOT IN (SELECT id FROM endpoints)
    """,
}


@dataclass
class Findings:
    """What was counted, and each thing that is wrong as a sentence."""

    queue_jobs: int = 0
    effects: int = 0
    rescues: int = 0
    poisoned: int = 0
    runs: int = 0
    calls: int = 0
    doubled_calls: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> list[str]:
        return [*self.lost, *self.doubled, *self.other]


async def check(stack: FaultStack, load: IndexLoad, events: EventLoad, *, mistakes: Sequence[str]) -> Findings:
    """Check all invariants of a stack that has come to rest; `mistakes` are answers that callers should not get."""
    findings = Findings()
    findings.lost += [*await broken(stack, LOST), *await _answers_without_rows(stack, load)]
    findings.lost += await _events_without_runs(stack, events)
    findings.doubled += [*await broken(stack, DOUBLED), *load.doubled_answers, *events.doubled_answers]
    findings.other += [*await broken(stack, LIMITS), *mistakes]
    await _count_calls(stack, load, findings)
    findings.other += [
        *_told_secrets(stack),
        *await _secrets_in_redis(stack),
        *await _strangers(stack, load),
        *await _held_resources(stack),
    ]
    totals = (
        await stack.postgres.fetch(
            "SELECT count(*) AS queue_jobs, sum(rescues)::int AS rescues,"
            " count(*) FILTER (WHERE errors::text LIKE '%POISONED%') AS poisoned,"
            " (SELECT count(*) FROM audit_effects) AS effects, (SELECT count(*) FROM job_runs) AS runs FROM queue_jobs"
        )
    )[0]
    findings.queue_jobs, findings.rescues = totals["queue_jobs"], totals["rescues"]
    findings.effects, findings.poisoned, findings.runs = totals["effects"], totals["poisoned"], totals["runs"]
    return findings


async def broken(stack: FaultStack, rules: Mapping[str, str]) -> list[str]:
    """Name the rules that do not hold, each with its first breaches."""
    breaches = []
    for rule, query in rules.items():
        rows = await stack.postgres.fetch(query)
        if rows:
            breaches.append(f"{rule} ({len(rows)} times): {[dict(row) for row in rows[:3]]}")
    return breaches


async def _answers_without_rows(stack: FaultStack, load: IndexLoad) -> list[str]:
    """Name what a caller was promised and nobody knows (I1, I3)."""
    queue_jobs = {str(row["id"]) for row in await stack.postgres.fetch("SELECT id FROM queue_jobs")}
    indexes = {str(row["id"]) for row in await stack.postgres.fetch("SELECT id FROM endpoint_indexes")}
    deleted = {endpoint.id for endpoint in (*load.deleted, *load.endpoints) if endpoint.is_deleted}
    return [
        f"I1: nobody knows {asked}"
        for asked in load.asked
        if asked.queue_job_id not in queue_jobs or (asked.index_id not in indexes and asked.endpoint_id not in deleted)
    ]


async def _events_without_runs(stack: FaultStack, events: EventLoad) -> list[str]:
    """Name the events that were taken in and did not make exactly the runs that they should (I1, I2)."""
    rows = await stack.postgres.fetch(
        "SELECT events.id, events.event_id, count(job_runs.id) AS runs"
        " FROM events LEFT JOIN job_runs ON job_runs.event_record_id = events.id GROUP BY 1, 2"
    )
    made = {row["id"]: (row["event_id"], row["runs"]) for row in rows}
    return [
        f"I1, I2: {sent} became {made.get(sent.id)}"
        for sent in events.sent
        if made.get(sent.id) != (sent.event_id, sent.runs)
    ]


async def _count_calls(stack: FaultStack, load: IndexLoad, findings: Findings) -> None:
    """Compare the calls that each endpoint saw with the attempts that the ledger admits to (I5, I6)."""
    seen = {endpoint.id: endpoint.farm.index_calls() for endpoint in (*load.endpoints, *load.deleted)}
    admitted: defaultdict[str, dict[str, Any]] = defaultdict(dict)
    for row in await stack.postgres.fetch(
        "SELECT args ->> 'id' AS endpoint_id, id::text, state, attempt, rescues, errors::text,"
        " jsonb_array_length(errors) AS ends FROM queue_jobs WHERE kind = 'indexEndpoint'"
    ):
        admitted[row["endpoint_id"]][row["id"]] = row
    for endpoint in (*load.endpoints, *load.deleted):
        calls, rows = seen[endpoint.id], admitted[endpoint.id]
        findings.calls += len(calls)
        findings.doubled_calls += max(0, len(calls) - sum(row["attempt"] for row in rows.values()))
        for id_, times in Counter(call.idempotency_id for call in calls).items():
            known = rows.get(id_)
            if known is None or times > known["attempt"] + known["rescues"]:
                of_it = [call for call in calls if call.idempotency_id == id_]
                findings.other.append(f"I6: {endpoint.farm.slug} saw {of_it} of {known and dict(known)}")
        overlaps = sum(later.began < (earlier.ended or later.began) for earlier, later in pairwise(calls))
        # A call overlaps another only after that one was given up or its server was lost, and both are written down.
        if overlaps > sum(row["ends"] for row in rows.values()):
            findings.other.append(f"I5: {endpoint.farm.slug} saw {overlaps} calls at once")
        if not all(call.key_fits for call in endpoint.farm.journal):
            findings.other.append(f"I7: {endpoint.farm.slug} was sent another's key")


def _told_secrets(stack: FaultStack) -> list[str]:
    """Name the secrets and payloads that stand in a log (I8)."""
    logs = stack.logs()
    return [f"I8: {word[:8]}… stands in a log" for word in (*stack.secrets, MARKER) if word in logs]


async def _secrets_in_redis(stack: FaultStack) -> list[str]:
    found = []
    async with stack.redis_client() as redis:
        async for key in redis.scan_iter(count=1000):
            value = await redis.dump(key) or b""
            found += [f"I8: a secret in {key!r}" for word in (*stack.secrets, MARKER) if word.encode() in value]
    return found


async def _strangers(stack: FaultStack, load: IndexLoad) -> list[str]:
    """Name what one tenant sees of another (I7)."""
    return [
        f"I7: {queue_job.id} is shown to a stranger"
        for tenant in load.tenants
        for queue_job in await stack.pairs[0].client(tenant.api_key).queue_jobs(kind="indexEndpoint")
        if queue_job.environment_id != tenant.environment_id
    ]


async def _held_resources(stack: FaultStack) -> list[str]:
    """Name what grew and did not go back (I10)."""
    wrong = []
    counted = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'kongflow%'"

    async def are_few() -> bool:
        # The sessions of a server that was killed end when PostgreSQL next looks at them.
        return int(await stack.postgres.value(counted)) <= MOST_CONNECTIONS

    try:
        await eventually(are_few, within=_SESSIONS_END_WITHIN)
    except AssertionError:
        wrong.append(f"I10: {await stack.postgres.value(counted)} connections")
    for process in (*stack.servers, *stack.workers):
        files = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        if files > MOST_FILES:
            wrong.append(f"I10: {files} files are open")
        if process.peak_memory_bytes() > MOST_MEMORY_BYTES:
            wrong.append(f"I10: {process.peak_memory_bytes()} bytes of memory")
    return wrong
