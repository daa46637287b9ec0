"""The numbers of the ledger, each with its unit."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from services.endpoints.domain.retry import Backoff


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """How long things may take and how much goes together; the defaults are the documented constants."""

    ring_answered_within: timedelta = timedelta(seconds=5)
    lease: timedelta = timedelta(seconds=10)
    renew_every: timedelta = timedelta(seconds=3)
    sweep_every: timedelta = timedelta(seconds=1)
    safety_poll: timedelta = timedelta(seconds=1)
    max_queue_jobs_per_call: int = 200
    batch_takes: timedelta = timedelta(milliseconds=75)
    call_takes: timedelta = timedelta(milliseconds=250)
    max_lanes_per_message: int = 50
    max_waiting_messages: int = 64
    max_calls_per_environment: int = 25
    max_rescues: int = 10
    max_unended_attempts: int = 3
    max_promoted_at_once: int = 2_000
    unknown_kind_delay: timedelta = timedelta(seconds=60)
    backoff: Backoff = field(default_factory=Backoff)

    @property
    def renewal_takes(self) -> timedelta:
        """Return how long one try to renew leases may take: when the first is due, there is time for several.

        Lease 10 s, renewed every 3 s: 1.75 s.
        """
        return (self.lease - self.renew_every) / 4


@dataclass(frozen=True, slots=True)
class Retention:
    """How long what is final is kept, and how it is deleted."""

    completed: timedelta = timedelta(hours=24)
    cancelled: timedelta = timedelta(days=7)
    discarded: timedelta = timedelta(days=30)
    indexes: timedelta = timedelta(days=7)
    indexes_kept: int = 10
    events: timedelta = timedelta(days=30)
    prune_every: timedelta = timedelta(minutes=5)
    max_rows_at_once: int = 20_000
