"""What the endpoints service counts, in Prometheus' words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from services.endpoints.domain.queue_job import QueueJobState
from services.endpoints.telemetry.largest import LargestCounter
from services.endpoints.telemetry.numbers import Numbers, known_kind, known_reason

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from uuid import UUID

    from services.endpoints.domain.ports.observer import DatabaseReading, PoolReading
    from services.endpoints.domain.queue_stats import QueueStats

_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """One registry per service; `/metrics` renders it."""

    def __init__(self, *, most_environments: int = 100) -> None:
        """Register what is counted; of created endpoints the `most_environments` largest environments are named."""
        self.registry = CollectorRegistry()
        self._created = LargestCounter(
            "kongflow_endpoint_created",
            "Endpoints that were registered.",
            ["environment", "organization"],
            most=most_environments,
        )
        self.registry.register(self._created)
        self._pings = Histogram(
            "kongflow_endpoint_ping_duration_seconds",
            "Duration of pings.",
            ["status"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._indexes = Histogram(
            "kongflow_endpoint_index_duration_seconds",
            "Duration of fetching and reading an index.",
            ["status"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._calls = Histogram(
            "kongflow_rpc_seconds",
            "Duration of gRPC calls.",
            ["method", "code"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._attempts = Counter(
            "kongflow_queue_attempts", "Attempts of queue jobs that ended.", ["kind", "result"], registry=self.registry
        )
        self._discards = Counter(
            "kongflow_queue_discards",
            "Queue jobs that will not be tried again.",
            ["kind", "reason"],
            registry=self.registry,
        )
        self._delivered = Counter(
            "kongflow_events_delivered", "Events that were given to their dispatchers.", registry=self.registry
        )
        self._invocations = Counter(
            "kongflow_event_invocations", "Invocations of dispatchers that events asked for.", registry=self.registry
        )
        self._numbers = Numbers(self.registry)
        self._ran = Counter(
            "kongflow_queue_jobs_run", "Queue jobs carried out.", ["queue", "result"], registry=self.registry
        )
        self._rung_again = Counter("kongflow_lanes_rung_again", "Lanes whose lease ran out.", registry=self.registry)
        self._failed_rounds = Counter(
            "kongflow_loop_failures",
            "Rounds of a server's loops that failed and were repeated.",
            ["loop"],
            registry=self.registry,
        )
        self._unreadable_filters = Counter(
            "kongflow_unreadable_filters",
            "Dispatchers that an event passed by because their filter cannot be read.",
            registry=self.registry,
        )
        self._queue_jobs = Gauge(
            "kongflow_queue_jobs", "Queue jobs that are kept.", ["queue", "state"], registry=self.registry
        )
        self._oldest = Gauge(
            "kongflow_oldest_available_seconds",
            "Age of the oldest queue job that may run.",
            ["queue"],
            registry=self.registry,
        )
        self._unknown_kinds = Gauge(
            "kongflow_unknown_kinds", "Waiting queue jobs of unknown kinds.", ["queue"], registry=self.registry
        )
        self._open_lanes = Gauge(
            "kongflow_open_lanes", "Lanes that are rung or running.", ["queue"], registry=self.registry
        )
        self._pauses = Gauge(
            "kongflow_pauses", "Pauses of a queue and of its lanes.", ["queue"], registry=self.registry
        )
        self._pickup = Gauge(
            "kongflow_pickup_seconds",
            "From due to begun, of what ended in the last minute; absent when nothing did.",
            ["queue", "quantile"],
            registry=self.registry,
        )

    def observe_call(self, method: str, *, code: str, duration: timedelta) -> None:
        """Count a gRPC call."""
        self._calls.labels(method, code).observe(duration.total_seconds())

    def count_created(self, *, environment_id: UUID, organization_id: UUID) -> None:
        """Count an endpoint that was registered."""
        self._created.count(str(environment_id), str(organization_id))

    def observe_ping(self, status: str, duration: timedelta) -> None:
        """Count a ping by how it ended."""
        self._pings.labels(status).observe(duration.total_seconds())

    def observe_index(self, status: str, duration: timedelta) -> None:
        """Count the fetch of an index by how it ended."""
        self._indexes.labels(status).observe(duration.total_seconds())

    def count_attempts(self, kind: str, result: str, attempts: int) -> None:
        """Count attempts that ended."""
        self._attempts.labels(known_kind(kind), result).inc(attempts)

    def count_discarded(self, kind: str, reason: str) -> None:
        """Count a queue job that will not be tried again."""
        self._discards.labels(known_kind(kind), known_reason(reason)).inc()

    def count_delivered(self, events: int, *, invocations: int) -> None:
        """Count events and what they asked for."""
        self._delivered.inc(events)
        self._invocations.inc(invocations)

    def show_pools(self, server: str, pools: Sequence[PoolReading]) -> None:
        """Set the gauges of the connections to `postgresql` or `redis`."""
        self._numbers.show_pools(server, pools)

    def show_watches(self, watches: int) -> None:
        """Set the gauge of open watches."""
        self._numbers.watches.set(watches)

    def show_database(self, reading: DatabaseReading) -> None:
        """Set the gauges of what the database says of itself."""
        self._numbers.show_database(reading)

    def count_run(self, queue: str, *, completed: int, failed: int) -> None:
        """Count queue jobs that a call back carried out."""
        self._ran.labels(queue, "completed").inc(completed)
        self._ran.labels(queue, "failed").inc(failed)

    def count_rung_again(self, lanes: int) -> None:
        """Count lanes that were rescued."""
        self._rung_again.inc(lanes)

    def count_failed_round(self, loop: str) -> None:
        """Count a round of a loop that failed."""
        self._failed_rounds.labels(loop).inc()

    def count_unreadable_filters(self, dispatchers: int) -> None:
        """Count dispatchers with filters that are none."""
        self._unreadable_filters.inc(dispatchers)

    def show_queues(self, queues: Sequence[QueueStats]) -> None:
        """Set the gauges of all queues; a state without queue jobs shows 0."""
        for stats in queues:
            for state in QueueJobState:
                self._queue_jobs.labels(stats.queue.value, state.value).set(stats.counts.get(state, 0))
            self._oldest.labels(stats.queue.value).set(stats.oldest_available_seconds)
            self._unknown_kinds.labels(stats.queue.value).set(stats.unknown_kinds)
            self._open_lanes.labels(stats.queue.value).set(stats.open_lanes)
            self._pauses.labels(stats.queue.value).set(len(stats.pauses))
        self._pickup.clear()
        for stats in queues:
            if stats.pickup is not None:
                for quantile, latency in (
                    ("0.5", stats.pickup.p50),
                    ("0.95", stats.pickup.p95),
                    ("0.99", stats.pickup.p99),
                ):
                    self._pickup.labels(stats.queue.value, quantile).set(latency.total_seconds())

    def render(self) -> bytes:
        """Return the registry in the text format."""
        return generate_latest(self.registry)
