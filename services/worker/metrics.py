"""The worker's counters, each with its own registry so that two workers in one process do not meet."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class WorkerMetrics:
    """What a worker counts."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.registry = CollectorRegistry()
        self.popped = Counter(
            "kongflow_worker_messages_popped", "Messages taken from Redis.", ["queue"], registry=self.registry
        )
        self.set_aside = Counter(
            "kongflow_worker_messages_set_aside",
            "Messages that could not be read and were moved to the queue's list.",
            ["queue", "reason"],
            registry=self.registry,
        )
        self.missing = Counter(
            "kongflow_worker_messages_missing",
            "Messages whose text was gone when they were popped.",
            ["queue"],
            registry=self.registry,
        )
        self.calls = Counter(
            "kongflow_worker_calls", "Calls to the endpoints service.", ["queue", "outcome"], registry=self.registry
        )
        self.crashes = Counter(
            "kongflow_worker_crashes", "Errors in the worker itself.", ["queue"], registry=self.registry
        )
        self.in_flight = Gauge("kongflow_worker_calls_in_flight", "Calls under way.", ["queue"], registry=self.registry)
        self.pickup_seconds = Histogram(
            "kongflow_worker_pickup_seconds",
            "Time from publishing a message to popping it, by the clocks of the two machines.",
            ["queue"],
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
            registry=self.registry,
        )
        self.redis_connected = Gauge(
            "kongflow_worker_redis_connected",
            "1 while the queue's messages can be popped.",
            ["queue"],
            registry=self.registry,
        )
        self.server_reachable = Gauge(
            "kongflow_worker_server_reachable", "1 while the endpoints service answers.", registry=self.registry
        )

    def exposition(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self.registry)
