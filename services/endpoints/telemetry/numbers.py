"""Gauges of what is shared: connections, watches and the database; and which names may be labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import Gauge

from services.endpoints.domain.attempt_reason import AttemptReason
from services.endpoints.domain.catalog import KINDS
from services.endpoints.telemetry.largest import OTHER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prometheus_client import CollectorRegistry

    from services.endpoints.domain.ports.observer import DatabaseReading, PoolReading

_KNOWN_REASONS: Final = frozenset(reason.value for reason in AttemptReason)


class Numbers:
    """Gauges that are set when somebody looks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register them."""
        pool = ["server", "pool"]
        self._size = Gauge("kongflow_pool_size", "Connections that are open.", pool, registry=registry)
        self._in_use = Gauge("kongflow_pool_in_use", "Connections that are lent.", pool, registry=registry)
        self._waiting = Gauge("kongflow_pool_waiting", "Borrowers that wait for a connection.", pool, registry=registry)
        self.watches = Gauge("kongflow_watches_open", "Watches that are open here.", registry=registry)
        self._ring_lag = Gauge(
            "kongflow_ring_lag_seconds",
            "How long the longest-waiting queue job is due in a lane that nobody has rung.",
            ["queue"],
            registry=registry,
        )
        self._endpoints = Gauge(
            "kongflow_endpoints",
            "Endpoints by how they have been answering, 10,000 of a state at most.",
            ["state"],
            registry=registry,
        )
        self._snapshot = Gauge(
            "kongflow_oldest_snapshot_seconds",
            "Age of the oldest snapshot in the database, which keeps dead rows from being cleaned up.",
            registry=registry,
        )

    def show_pools(self, server: str, pools: Sequence[PoolReading]) -> None:
        """Set the gauges of some pools."""
        for pool in pools:
            self._size.labels(server, pool.name).set(pool.size)
            self._in_use.labels(server, pool.name).set(pool.in_use)
            self._waiting.labels(server, pool.name).set(pool.waiting)

    def show_database(self, reading: DatabaseReading) -> None:
        """Set the gauges of what the database says."""
        for queue, seconds in reading.ring_lag_seconds.items():
            self._ring_lag.labels(queue).set(seconds)
        self._snapshot.set(reading.oldest_snapshot_seconds)
        for state, endpoints in reading.endpoints.items():
            self._endpoints.labels(state).set(endpoints)


def known_kind(kind: str) -> str:
    """Return a kind of the catalog as it is, and any other as `other`."""
    return kind if kind in KINDS else OTHER


def known_reason(reason: str) -> str:
    """Return a reason of ours as it is, and any other as `other`."""
    return reason if reason in _KNOWN_REASONS else OTHER
