"""The endpoints service's settings: read once from the environment and a file, every mistake reported together."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from services.configuration.durations import Seconds
from services.configuration.settings import load
from services.configuration.values import (
    Address,
    DatabaseUrl,
    ListenAddress,
    OptionalListenAddress,
    OptionalPath,
    RedisUrl,
    matching_pair,
    readable_authorities,
)
from services.endpoints.domain.endpoint_health import HealthPolicy
from services.endpoints.domain.retry import Backoff
from services.endpoints.secrets.examples import is_example_key, is_example_token
from services.endpoints.secrets.keys import BadKeyError, parse_key, parse_keys
from services.endpoints.tuning import Tuning
from services.tls import is_loopback

if TYPE_CHECKING:
    from pathlib import Path

    from services.endpoints.domain.ledger_settings import LedgerSettings

Network = IPv4Network | IPv6Network


class EndpointsSettings(Tuning):
    """What the endpoints service needs to know; frozen."""

    database_url: DatabaseUrl = Field(repr=False)
    """PostgreSQL 15 or later (`postgresql://`); may hold a password, so it is not shown."""

    redis_url: RedisUrl = Field(default="redis://127.0.0.1:6379/0", repr=False)
    """Redis 6.2 or later (`redis://`, `rediss://`, `unix://`); may hold a password, so it is not shown."""

    grpc_address: ListenAddress = Address(host="127.0.0.1", port=50051)
    """`host:port` of the gRPC server."""

    http_address: ListenAddress = Address(host="127.0.0.1", port=8080)
    """`host:port` of health and deployment hooks."""

    metrics_address: OptionalListenAddress = None
    """`host:port` of `/metrics`; nothing listens when unset or empty."""

    tls_certificate_file: OptionalPath = None
    """What the gRPC server shows, in PEM, with the certificates that lead to its authority; plaintext when unset."""

    tls_key_file: OptionalPath = Field(default=None, validate_default=True)
    """The key of KONGFLOW_TLS_CERTIFICATE_FILE, unencrypted PEM; given with it or not at all."""

    tls_client_ca_file: OptionalPath = None
    """The authorities, in PEM, one of which must vouch for every gRPC client; with it TLS is mutual."""

    allow_plaintext: bool = Field(default=False, validate_default=True)
    """Whether gRPC may listen without TLS where others than this machine reach it; for private networks only."""

    secret_keys: SecretStr
    """Encrypt API keys at rest: 32 bytes each in hex or base64, with commas; the first encrypts, all decrypt."""

    lookup_pepper: SecretStr
    """The key of the keyed hashes by which API keys and tokens are found: 32 bytes in hex or base64."""

    admin_token: SecretStr | None = Field(default=None, min_length=20)
    """The first administrator's bearer token, at least 20 characters; none when unset."""

    egress_allow: Annotated[tuple[Network, ...], NoDecode] = ()
    """Networks in CIDR form, with commas, that endpoints may live in besides the public internet."""

    callers_pool_size: int = Field(default=12, ge=1, le=200, json_schema_extra={"key": "database.callers_pool_size"})
    """Connections to PostgreSQL for what callers change."""

    readers_pool_size: int = Field(default=8, ge=1, le=200, json_schema_extra={"key": "database.readers_pool_size"})
    """Connections to PostgreSQL for what callers read."""

    lists_pool_size: int = Field(default=6, ge=1, le=200, json_schema_extra={"key": "database.lists_pool_size"})
    """Connections to PostgreSQL for lists by optional filters, which are planned for what is asked."""

    calls_pool_size: int = Field(default=4, ge=1, le=200, json_schema_extra={"key": "database.calls_pool_size"})
    """Connections to PostgreSQL for what comes before and after the call of a customer."""

    call_backs_pool_size: int = Field(
        default=3, ge=1, le=200, json_schema_extra={"key": "database.call_backs_pool_size"}
    )
    """Connections to PostgreSQL for batches of work, of which so many run at once, a third fewer while they are slow.

    Few, so that a backlog cannot crowd out callers and calls.
    """

    relay_pool_size: int = Field(default=5, ge=1, le=50, json_schema_extra={"key": "database.relay_pool_size"})
    """Connections to PostgreSQL for ringing and rescue; leases have one of their own."""

    endpoint_timeout_seconds: Seconds = Field(default=30, gt=0, le=300, json_schema_extra={"key": "api_client.timeout"})
    """How long one call to an endpoint may take in all."""

    ping_total_seconds: Seconds = Field(default=30, gt=0, le=300, json_schema_extra={"key": "api_client.ping_total"})
    """How long all tries of an interactive ping may take together."""

    max_answer_bytes: int = Field(
        default=8 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024, json_schema_extra={"key": "api_client.max_answer_bytes"}
    )
    """The largest answer of an endpoint, decoded."""

    max_index_items: int = Field(default=20_000, ge=1, le=200_000, json_schema_extra={"key": "indexing.max_items"})
    """How many items one index may offer."""

    index_window_seconds: Seconds = Field(default=900, ge=0, le=86_400, json_schema_extra={"key": "indexing.window"})
    """The least time between two indexes of one endpoint and source, outside DEVELOPMENT; 0 means none."""

    hook_delay_seconds: Seconds = Field(default=5, ge=0, le=600, json_schema_extra={"key": "indexing.hook_delay"})
    """How long after a deployment hook its index starts."""

    lease_seconds: Seconds = Field(default=10, ge=1, le=600, json_schema_extra={"key": "ledger.lease"})
    """How long a server that calls a customer may stay silent before its work is given to another."""

    ring_answered_within_seconds: Seconds = Field(
        default=5, ge=0.5, le=600, json_schema_extra={"key": "ledger.ring_answered_within"}
    )
    """How long a rung lane may wait for a worker before it is rung again."""

    max_calls_per_environment: int = Field(
        default=25, ge=1, le=10_000, json_schema_extra={"key": "ledger.max_calls_per_environment"}
    )
    """How many lanes of one environment may wait for or hold a worker's call to a customer: a quarter of all of them.

    A customer that hangs keeps its slots for as long as a call may take; the others are for everybody else.
    """

    tenant_calls_per_second: float = Field(
        default=2_000, gt=0, le=1_000_000, json_schema_extra={"key": "tenants.calls_per_second"}
    )
    """How many calls each organization may make at this server in a second; administrators together are one."""

    tenant_calls_burst: int = Field(
        default=4_000, ge=1, le=10_000_000, json_schema_extra={"key": "tenants.calls_burst"}
    )
    """How many calls an organization may make in a row after a pause, before only the rate counts."""

    endpoint_failing_after: int = Field(
        default=3, ge=1, le=1_000, json_schema_extra={"key": "endpoint_health.failing_after"}
    )
    """How many failed calls in a row make an endpoint FAILING: it is called once per probe."""

    endpoint_suspended_after: int = Field(
        default=20, ge=2, le=100_000, json_schema_extra={"key": "endpoint_health.suspended_after"}
    )
    """How many failed calls in a row make an endpoint SUSPENDED."""

    endpoint_probe_after_seconds: Seconds = Field(
        default=30, ge=0.1, le=86_400, json_schema_extra={"key": "endpoint_health.probe_after"}
    )
    """How long after it began to fail an endpoint is probed; each probe that fails doubles it."""

    endpoint_probe_at_most_seconds: Seconds = Field(
        default=900, ge=0.1, le=86_400, json_schema_extra={"key": "endpoint_health.probe_at_most"}
    )
    """How far apart the probes of a FAILING endpoint are at most."""

    endpoint_suspended_probe_seconds: Seconds = Field(
        default=3_600, ge=0.1, le=604_800, json_schema_extra={"key": "endpoint_health.suspended_probe_every"}
    )
    """How often a SUSPENDED endpoint is probed, give or take a tenth."""

    reindex_every_seconds: Seconds = Field(
        default=86_400, ge=0, le=31_536_000, json_schema_extra={"key": "indexing.reindex_every"}
    )
    """How often endpoints of PRODUCTION environments are indexed anew, give or take a tenth; 0 means never."""

    tenant_calls_at_once: int = Field(default=512, ge=1, le=100_000, json_schema_extra={"key": "tenants.calls_at_once"})
    """How many calls of one organization this server holds open at once, watches included."""

    tenant_watches_at_once: int = Field(
        default=100, ge=1, le=100_000, json_schema_extra={"key": "tenants.watches_at_once"}
    )
    """How many watches of one organization this server holds open at once; administrators together are one."""

    memory_limit_bytes: int | None = Field(
        default=None, ge=128 * 1024 * 1024, json_schema_extra={"key": "memory_limit_bytes"}
    )
    """How much memory a server may hold: calls are refused above nine tenths of it, or else of the container's."""

    drain_timeout_seconds: Seconds = Field(default=30, ge=0, le=600, json_schema_extra={"key": "drain_timeout"})
    """How long a stopping server waits for what it has begun."""

    traces_endpoint: str | None = Field(default=None, pattern=r"^https?://[^/@]+(/.*)?$")
    """The OTLP/HTTP collector that traces are sent to, such as `http://127.0.0.1:4318`; none are made when unset."""

    traces_ratio: float = Field(default=0.01, ge=0, le=1)
    """How many of the traces that begin here are recorded, from 0 to 1; a caller's own decision is followed."""

    metrics_largest: int = Field(default=100, ge=1, le=10_000)
    """How many environments `kongflow_endpoint_created_total` names, the largest; the rest are `other`."""

    metrics_read_every_seconds: Seconds = Field(
        default=5, ge=0, le=300, json_schema_extra={"key": "metrics_read_every"}
    )
    """How old what `/metrics` says of queues and the database may be; it costs as much to read as a hundred calls."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least serious line that is logged."""

    log_format: Literal["console", "json"] = "json"
    """How log lines are written."""

    @property
    def ledger(self) -> LedgerSettings:
        """Return the numbers of the ledger."""
        return self.ledger_with(
            lease=timedelta(seconds=self.lease_seconds),
            ring_answered_within=timedelta(seconds=self.ring_answered_within_seconds),
            max_calls_per_environment=self.max_calls_per_environment,
        )

    @property
    def hook_delay(self) -> timedelta:
        """Return how long after a deployment hook its index starts."""
        return timedelta(seconds=self.hook_delay_seconds)

    @property
    def health_policy(self) -> HealthPolicy:
        """Return when endpoints are called that fail, and how often those of PRODUCTION are indexed anew."""
        return HealthPolicy(
            failing_after=self.endpoint_failing_after,
            suspended_after=self.endpoint_suspended_after,
            backoff=Backoff(
                base=timedelta(seconds=self.endpoint_probe_after_seconds),
                cap=timedelta(seconds=self.endpoint_probe_at_most_seconds),
            ),
            suspended_probe_every=timedelta(seconds=self.endpoint_suspended_probe_seconds),
            reindex_every=timedelta(seconds=self.reindex_every_seconds),
        )

    @property
    def index_window(self) -> timedelta:
        """Return the least time between two indexes of one endpoint and source."""
        return timedelta(seconds=self.index_window_seconds)

    @field_validator("endpoint_suspended_after")
    @classmethod
    def _suspended_comes_after_failing(cls, value: int, info: ValidationInfo) -> int:
        if value <= info.data.get("endpoint_failing_after", 0):
            raise ValueError("must be more than endpoint_health.failing_after")
        return value

    @field_validator("endpoint_probe_at_most_seconds")
    @classmethod
    def _probes_are_not_capped_below_the_first(cls, value: float, info: ValidationInfo) -> float:
        if value < info.data.get("endpoint_probe_after_seconds", 0):
            raise ValueError("must be no less than endpoint_health.probe_after")
        return value

    @field_validator("tls_key_file")
    @classmethod
    def _tls_key_belongs_to_the_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if "tls_certificate_file" not in info.data:
            return value
        certificate = info.data["tls_certificate_file"]
        matching_pair(certificate, value, certificate_variable="KONGFLOW_TLS_CERTIFICATE_FILE")
        return value

    @field_validator("tls_client_ca_file")
    @classmethod
    def _tls_clients_need_tls(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None:
            return value
        if info.data.get("tls_certificate_file", value) is None:
            raise ValueError("needs KONGFLOW_TLS_CERTIFICATE_FILE")
        return readable_authorities(value)

    @field_validator("allow_plaintext")
    @classmethod
    def _plaintext_stays_on_this_machine(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - pydantic's
        address = info.data.get("grpc_address")
        is_plaintext = "tls_certificate_file" in info.data and info.data["tls_certificate_file"] is None
        if not value and is_plaintext and address is not None and not is_loopback(address.host):
            raise ValueError(
                f"gRPC would listen on {address} in plaintext; give it TLS by KONGFLOW_TLS_CERTIFICATE_FILE and "
                "KONGFLOW_TLS_KEY_FILE, or set this to true where the network is private"
            )
        return value

    @field_validator("secret_keys", "lookup_pepper", "admin_token")
    @classmethod
    def _secrets_are_nobodys_example(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        listening = (info.data.get("grpc_address"), info.data.get("http_address"))
        if value is None or all(address is None or is_loopback(address.host) for address in listening):
            return value
        is_example = is_example_token if info.field_name == "admin_token" else is_example_key
        if is_example(value.get_secret_value()):
            raise ValueError("is an example that everybody knows; make one of your own by `openssl rand -hex 32`")
        return value

    @field_validator("secret_keys")
    @classmethod
    def _secret_keys_are_keys(cls, value: SecretStr) -> SecretStr:
        try:
            parse_keys(value.get_secret_value())
        except BadKeyError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("lookup_pepper")
    @classmethod
    def _lookup_pepper_is_a_key(cls, value: SecretStr) -> SecretStr:
        try:
            parse_key(value.get_secret_value())
        except BadKeyError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("egress_allow", mode="before")
    @classmethod
    def _egress_allow_is_networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return tuple(ip_network(part.strip()) for part in value.split(",") if part.strip())
        except ValueError:
            raise ValueError("must be networks such as 127.0.0.0/8,::1/128") from None


def load_settings(**given: Any) -> EndpointsSettings:  # noqa: ANN401 - pydantic checks what is given, as it does the environment
    """Return the settings from the environment and the file of KONGFLOW_CONFIG; `given` fields win over both.

    Raises:
        SettingsError: something is missing, impossible or no setting at all; all mistakes are named.
    """
    return load(EndpointsSettings, given)
