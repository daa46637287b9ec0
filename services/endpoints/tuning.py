"""The knobs of the ledger, of retries and of how long things are kept, with the design's constants as defaults."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.configuration.durations import Seconds
from services.endpoints.domain.ledger_settings import LedgerSettings, Retention
from services.endpoints.domain.retry import Backoff

# The least that leaves a server time for a statement and a pause between two renewals of one lease.
_RENEWALS_PER_LEASE = 0.3


class Tuning(BaseSettings):
    """What is rarely changed; each field is a variable and a key of the file like any other setting."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    api_client_max_retries: int = Field(default=3, ge=1, le=10, json_schema_extra={"key": "api_client.max_retries"})
    """How often an interactive ping is tried in all. Queue jobs call once per attempt; `retry` paces those."""

    api_client_retry_backoff_seconds: Seconds = Field(
        default=1, ge=0, le=60, json_schema_extra={"key": "api_client.retry_backoff"}
    )
    """The pause between two tries of an interactive ping; a longer `Retry-After` is obeyed."""

    api_client_user_agent: str = Field(
        default="Kongflow/1.0",
        min_length=1,
        max_length=200,
        pattern=r"^[!-~]+( [!-~]+)*$",
        json_schema_extra={"key": "api_client.user_agent"},
    )
    """The `User-Agent` of every call to an endpoint."""

    queue_poll_interval_seconds: Seconds = Field(
        default=1, ge=0.05, le=60, json_schema_extra={"key": "queue.poll_interval"}
    )
    """How often the relay looks without having been woken; wake-ups come at once."""

    queue_max_attempts: int = Field(default=5, ge=1, le=25, json_schema_extra={"key": "queue.max_attempts"})
    """How many attempts an index has, except in DEVELOPMENT, where it has one."""

    retry_base_seconds: Seconds = Field(default=1, ge=0.01, le=600, json_schema_extra={"key": "retry.base"})
    """The delay after the first failed attempt, before jitter over its upper half."""

    retry_factor: float = Field(default=2, ge=1, le=10, json_schema_extra={"key": "retry.factor"})
    """By how much the delay grows with each attempt."""

    retry_cap_seconds: Seconds = Field(default=600, ge=0.01, le=86_400, json_schema_extra={"key": "retry.cap"})
    """The longest delay between two attempts."""

    ledger_renew_every_seconds: Seconds = Field(
        default=3, ge=0.1, le=300, json_schema_extra={"key": "ledger.renew_every"}
    )
    """How often leases are renewed; never less often than at three tenths of the lease."""

    ledger_sweep_every_seconds: Seconds = Field(
        default=1, ge=0.1, le=60, json_schema_extra={"key": "ledger.sweep_every"}
    )
    """How often lanes that nobody answered, and leases that ran out, are looked for."""

    ledger_max_queue_jobs_per_call: int = Field(
        default=200, ge=1, le=1_000, json_schema_extra={"key": "ledger.max_queue_jobs_per_call"}
    )
    """How many queue jobs one call back carries at most."""

    ledger_max_lanes_per_message: int = Field(
        default=50, ge=1, le=50, json_schema_extra={"key": "ledger.max_lanes_per_message"}
    )
    """How many lanes one message names at most; the contract allows 50."""

    ledger_max_waiting_messages: int = Field(
        default=64, ge=1, le=10_000, json_schema_extra={"key": "ledger.max_waiting_messages"}
    )
    """How many messages of a queue may wait in Redis before no more lanes are rung."""

    ledger_max_rescues: int = Field(default=10, ge=1, le=1_000, json_schema_extra={"key": "ledger.max_rescues"})
    """How often a queue job may lose its server before it is discarded."""

    ledger_max_unended_attempts: int = Field(
        default=3, ge=1, le=100, json_schema_extra={"key": "ledger.max_unended_attempts"}
    )
    """How many attempts of a suspect queue job may begin and never end before it is discarded as poisoned."""

    retention_completed_seconds: Seconds = Field(
        default=86_400, ge=60, le=31_536_000, json_schema_extra={"key": "retention.completed"}
    )
    """How long completed queue jobs are kept."""

    retention_cancelled_seconds: Seconds = Field(
        default=604_800, ge=60, le=31_536_000, json_schema_extra={"key": "retention.cancelled"}
    )
    """How long cancelled queue jobs are kept."""

    retention_discarded_seconds: Seconds = Field(
        default=2_592_000, ge=60, le=31_536_000, json_schema_extra={"key": "retention.discarded"}
    )
    """How long discarded queue jobs, the dead letters, are kept."""

    retention_events_seconds: Seconds = Field(
        default=2_592_000, ge=2_592_000, le=315_360_000, json_schema_extra={"key": "retention.events"}
    )
    """How long events are kept; the contract promises a replay for 30 days, so never less."""

    retention_indexes_seconds: Seconds = Field(
        default=604_800, ge=60, le=31_536_000, json_schema_extra={"key": "retention.indexes"}
    )
    """How long endpoint indexes are kept."""

    retention_indexes_kept: int = Field(default=10, ge=0, le=1_000, json_schema_extra={"key": "retention.indexes_kept"})
    """How many indexes of an endpoint are kept, however old they are."""

    retention_prune_every_seconds: Seconds = Field(
        default=300, ge=1, le=86_400, json_schema_extra={"key": "retention.prune_every"}
    )
    """How often what is too old is deleted."""

    @property
    def retry_backoff(self) -> timedelta:
        """Return the pause between two tries of an interactive ping."""
        return timedelta(seconds=self.api_client_retry_backoff_seconds)

    @property
    def retention(self) -> Retention:
        """Return how long what is final is kept."""
        return Retention(
            completed=timedelta(seconds=self.retention_completed_seconds),
            cancelled=timedelta(seconds=self.retention_cancelled_seconds),
            discarded=timedelta(seconds=self.retention_discarded_seconds),
            indexes=timedelta(seconds=self.retention_indexes_seconds),
            indexes_kept=self.retention_indexes_kept,
            events=timedelta(seconds=self.retention_events_seconds),
            prune_every=timedelta(seconds=self.retention_prune_every_seconds),
        )

    def ledger_with(
        self, *, lease: timedelta, ring_answered_within: timedelta, max_calls_per_environment: int
    ) -> LedgerSettings:
        """Return the numbers of the ledger, with those that are settings of the service itself."""
        return LedgerSettings(
            lease=lease,
            renew_every=min(timedelta(seconds=self.ledger_renew_every_seconds), lease * _RENEWALS_PER_LEASE),
            ring_answered_within=ring_answered_within,
            max_calls_per_environment=max_calls_per_environment,
            sweep_every=timedelta(seconds=self.ledger_sweep_every_seconds),
            safety_poll=timedelta(seconds=self.queue_poll_interval_seconds),
            max_queue_jobs_per_call=self.ledger_max_queue_jobs_per_call,
            max_lanes_per_message=self.ledger_max_lanes_per_message,
            max_waiting_messages=self.ledger_max_waiting_messages,
            max_rescues=self.ledger_max_rescues,
            max_unended_attempts=self.ledger_max_unended_attempts,
            backoff=Backoff(
                base=timedelta(seconds=self.retry_base_seconds),
                factor=self.retry_factor,
                cap=timedelta(seconds=self.retry_cap_seconds),
            ),
        )
