"""The knobs of the ledger, of retries and of how long things are kept, with the design's constants as defaults."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, ValidationInfo, field_validator

from services.configuration.durations import Seconds
from services.configuration.settings import ServiceSettings
from services.endpoints.domain.ledger_settings import LedgerSettings, Retention
from services.endpoints.domain.retry import Backoff

# The least that leaves a server time for a statement and a pause between two renewals of one lease.
_RENEWALS_PER_LEASE = 0.3


class Tuning(ServiceSettings):
    """What is rarely changed; each field is a variable and a key of the file like any other setting."""

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

    api_client_max_connections: int = Field(
        default=1_024, ge=1, le=65_535, json_schema_extra={"key": "api_client.max_connections"}
    )
    """How many connections to endpoints a server holds open at once; further calls wait for one."""

    queue_poll_interval_seconds: Seconds = Field(
        default=1, ge=0.05, le=60, json_schema_extra={"key": "queue.poll_interval"}
    )
    """How often the relay looks without having been woken; wake-ups come at once."""

    queue_max_attempts: int = Field(default=5, ge=1, le=25, json_schema_extra={"key": "queue.max_attempts"})
    """How many attempts the index of an endpoint, the delivery of an event and the invocation of a dispatcher have.

    An index in a DEVELOPMENT environment has one. Queue jobs that are there already keep what they were given.
    """

    queue_registration_max_attempts: int = Field(
        default=3, ge=1, le=25, json_schema_extra={"key": "queue.registration_max_attempts"}
    )
    """How many attempts the registration of one item of an index has."""

    retry_base_seconds: Seconds = Field(default=1, ge=0.01, le=600, json_schema_extra={"key": "retry.base"})
    """The delay after the first failed attempt, before jitter over its upper half."""

    retry_factor: float = Field(default=2, ge=1, le=10, json_schema_extra={"key": "retry.factor"})
    """By how much the delay grows with each attempt."""

    retry_cap_seconds: Seconds = Field(default=600, ge=0.01, le=86_400, json_schema_extra={"key": "retry.cap"})
    """The longest delay between two attempts; no less than `retry.base`."""

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

    ledger_unknown_kind_delay_seconds: Seconds = Field(
        default=60, ge=0.1, le=86_400, json_schema_extra={"key": "ledger.unknown_kind_delay"}
    )
    """How long a queue job of a kind that this version does not know waits for one that does."""

    ledger_batch_takes_seconds: Seconds = Field(
        default=0.075, ge=0.005, le=10, json_schema_extra={"key": "ledger.batch_takes"}
    )
    """How long one transaction with queue jobs should take; as many go together as took so long before."""

    ledger_call_takes_seconds: Seconds = Field(
        default=0.25, ge=0, le=10, json_schema_extra={"key": "ledger.call_takes"}
    )
    """How long a call back goes on with lanes that have more to do; then they are rung again."""

    ledger_max_promoted_at_once: int = Field(
        default=2_000, ge=1, le=100_000, json_schema_extra={"key": "ledger.max_promoted_at_once"}
    )
    """How many scheduled queue jobs become available in one statement once they are due."""

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
        default=604_800, ge=86_400, le=31_536_000, json_schema_extra={"key": "retention.indexes"}
    )
    """How long endpoint indexes are kept; a repeated CreateEndpoint names its index for a day, so never less."""

    retention_indexes_kept: int = Field(default=10, ge=0, le=1_000, json_schema_extra={"key": "retention.indexes_kept"})
    """How many indexes of an endpoint are kept, however old they are."""

    retention_prune_every_seconds: Seconds = Field(
        default=300, ge=1, le=86_400, json_schema_extra={"key": "retention.prune_every"}
    )
    """How often what is too old is deleted."""

    retention_max_rows_at_once: int = Field(
        default=20_000, ge=1, le=1_000_000, json_schema_extra={"key": "retention.max_rows_at_once"}
    )
    """How many rows of a table go in one transaction; while there are more, the next follows at once."""

    rpc_default_deadline_seconds: Seconds = Field(
        default=10, ge=0.1, le=3_600, json_schema_extra={"key": "rpc.default_deadline"}
    )
    """How long a call may take whose caller sets no deadline."""

    rpc_ping_deadline_seconds: Seconds = Field(
        default=35, ge=0.1, le=3_600, json_schema_extra={"key": "rpc.ping_deadline"}
    )
    """The same of calls that ping an endpoint; more than `api_client.ping_total`, so that the ping's reason arrives."""

    rpc_call_back_deadline_seconds: Seconds = Field(
        default=45, ge=0.1, le=3_600, json_schema_extra={"key": "rpc.call_back_deadline"}
    )
    """The same of a worker's call back; workers set `worker.call_timeout`."""

    rpc_max_deadline_seconds: Seconds = Field(
        default=300, ge=1, le=3_600, json_schema_extra={"key": "rpc.max_deadline"}
    )
    """The longest a call may take, whatever its caller says; streams have no limit."""

    rpc_max_request_bytes: int = Field(
        default=1_048_576, ge=1_048_576, le=67_108_864, json_schema_extra={"key": "rpc.max_request_bytes"}
    )
    """The largest request; the contract promises 1 MiB, so never less."""

    rpc_max_metadata_bytes: int = Field(
        default=16_384, ge=8_192, le=1_048_576, json_schema_extra={"key": "rpc.max_metadata_bytes"}
    )
    """How much metadata a call may bring before gRPC may refuse it; twice as much it always refuses."""

    database_callers_statement_timeout_seconds: Seconds = Field(
        default=5, ge=0.1, le=600, json_schema_extra={"key": "database.callers_statement_timeout"}
    )
    """How long one statement for a caller may take."""

    database_callers_lock_timeout_seconds: Seconds = Field(
        default=2, ge=0.05, le=600, json_schema_extra={"key": "database.callers_lock_timeout"}
    )
    """How long one statement for a caller may wait for a lock."""

    database_call_backs_statement_timeout_seconds: Seconds = Field(
        default=20, ge=0.1, le=600, json_schema_extra={"key": "database.call_backs_statement_timeout"}
    )
    """How long one statement for queue jobs may take, those that call customers included."""

    database_call_backs_lock_timeout_seconds: Seconds = Field(
        default=5, ge=0.05, le=600, json_schema_extra={"key": "database.call_backs_lock_timeout"}
    )
    """How long one statement for queue jobs may wait for a lock."""

    database_relay_statement_timeout_seconds: Seconds = Field(
        default=5, ge=0.1, le=600, json_schema_extra={"key": "database.relay_statement_timeout"}
    )
    """How long one statement for ringing, rescue and leases may take."""

    database_relay_lock_timeout_seconds: Seconds = Field(
        default=1, ge=0.05, le=600, json_schema_extra={"key": "database.relay_lock_timeout"}
    )
    """How long one statement for ringing, rescue and leases may wait for a lock."""

    database_idle_in_transaction_timeout_seconds: Seconds = Field(
        default=5, ge=0.1, le=600, json_schema_extra={"key": "database.idle_in_transaction_timeout"}
    )
    """How long a transaction may stand still before PostgreSQL ends it: what a frozen server held becomes free."""

    database_tcp_user_timeout_seconds: Seconds = Field(
        default=10, ge=0.1, le=600, json_schema_extra={"key": "database.tcp_user_timeout"}
    )
    """How long PostgreSQL waits for a server that no longer acknowledges what it is sent."""

    @field_validator("retry_cap_seconds")
    @classmethod
    def _retry_cap_is_no_less_than_the_base(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("retry_base_seconds", 0):
            raise ValueError("must be no less than retry.base")
        return value

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
            max_rows_at_once=self.retention_max_rows_at_once,
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
            max_promoted_at_once=self.ledger_max_promoted_at_once,
            batch_takes=timedelta(seconds=self.ledger_batch_takes_seconds),
            call_takes=timedelta(seconds=self.ledger_call_takes_seconds),
            unknown_kind_delay=timedelta(seconds=self.ledger_unknown_kind_delay_seconds),
            backoff=Backoff(
                base=timedelta(seconds=self.retry_base_seconds),
                factor=self.retry_factor,
                cap=timedelta(seconds=self.retry_cap_seconds),
            ),
        )
