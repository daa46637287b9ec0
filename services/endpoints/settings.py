"""The endpoints service's settings: read once from the environment, every mistake reported together."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from services.endpoints.secrets.keys import BadKeyError, parse_key, parse_keys

MAX_PORT: Final = 65_535
_POSTGRES_SCHEMES: Final = ("postgresql://", "postgres://")
_REDIS_SCHEMES: Final = ("redis://", "rediss://", "unix://")

Network = IPv4Network | IPv6Network


class SettingsError(Exception):
    """One or more variables have an impossible value; each line of the text names one, without its value."""


class Address(BaseModel):
    """A host and a port to listen on; port 0 lets the system choose."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class EndpointsSettings(BaseSettings):
    """What the endpoints service needs to know; frozen.

    Each field is the environment variable of its name in capitals with the prefix `KONGFLOW_`.
    """

    model_config = SettingsConfigDict(env_prefix="KONGFLOW_", frozen=True, extra="ignore", hide_input_in_errors=True)

    database_url: str = Field(repr=False)
    """PostgreSQL 15 or later (`postgresql://`); may hold a password, so it is not shown."""

    redis_url: str = Field(default="redis://127.0.0.1:6379/0", repr=False)
    """Redis 6.2 or later (`redis://`, `rediss://`, `unix://`); may hold a password, so it is not shown."""

    grpc_address: Annotated[Address, NoDecode] = Address(host="127.0.0.1", port=50051)
    """`host:port` of the gRPC server."""

    http_address: Annotated[Address, NoDecode] = Address(host="127.0.0.1", port=8080)
    """`host:port` of health and deployment hooks."""

    metrics_address: Annotated[Address | None, NoDecode] = None
    """`host:port` of `/metrics`; nothing listens when unset or empty."""

    secret_keys: SecretStr
    """Encrypt API keys at rest: 32 bytes each in hex or base64, with commas; the first encrypts, all decrypt."""

    lookup_pepper: SecretStr
    """The key of the keyed hashes by which API keys and tokens are found: 32 bytes in hex or base64."""

    admin_token: SecretStr | None = Field(default=None, min_length=20)
    """The first administrator's bearer token, at least 20 characters; none when unset."""

    egress_allow: Annotated[tuple[Network, ...], NoDecode] = ()
    """Networks in CIDR form, with commas, that endpoints may live in besides the public internet."""

    callers_pool_size: int = Field(default=12, ge=1, le=200)
    """Connections to PostgreSQL for what callers change."""

    readers_pool_size: int = Field(default=12, ge=1, le=200)
    """Connections to PostgreSQL for what callers read."""

    calls_pool_size: int = Field(default=4, ge=1, le=200)
    """Connections to PostgreSQL for what comes before and after the call of a customer."""

    call_backs_pool_size: int = Field(default=3, ge=1, le=200)
    """Connections to PostgreSQL for batches of work; few, so that a backlog cannot crowd out callers and calls."""

    relay_pool_size: int = Field(default=5, ge=1, le=50)
    """Connections to PostgreSQL for ringing, rescue and leases."""

    endpoint_timeout_seconds: float = Field(default=30, gt=0, le=300)
    """How long one call to an endpoint may take in all."""

    ping_total_seconds: float = Field(default=30, gt=0, le=300)
    """How long all tries of an interactive ping may take together."""

    max_answer_bytes: int = Field(default=8 * 1024 * 1024, ge=1024, le=256 * 1024 * 1024)
    """The largest answer of an endpoint, decoded."""

    max_index_items: int = Field(default=20_000, ge=1, le=200_000)
    """How many items one index may offer."""

    index_window_seconds: float = Field(default=900, ge=0, le=86_400)
    """The least time between two indexes of one endpoint and source, outside DEVELOPMENT; 0 means none."""

    hook_delay_seconds: float = Field(default=5, ge=0, le=600)
    """How long after a deployment hook its index starts."""

    lease_seconds: float = Field(default=10, ge=1, le=600)
    """How long a server that calls a customer may stay silent before its work is given to another."""

    ring_answered_within_seconds: float = Field(default=5, ge=0.5, le=600)
    """How long a rung lane may wait for a worker before it is rung again."""

    max_calls_per_environment: int = Field(default=25, ge=1, le=10_000)
    """How many lanes of one environment may wait for or hold a worker's call to a customer: a quarter of all of them.

    A customer that hangs keeps its slots for as long as a call may take; the others are for everybody else.
    """

    tenant_calls_per_second: float = Field(default=2_000, gt=0, le=1_000_000)
    """How many calls each organization may make at this server in a second; administrators together are one."""

    tenant_calls_burst: int = Field(default=4_000, ge=1, le=10_000_000)
    """How many calls an organization may make in a row after a pause, before only the rate counts."""

    tenant_calls_at_once: int = Field(default=256, ge=1, le=100_000)
    """How many calls of one organization this server holds open at once, watches included."""

    drain_timeout_seconds: float = Field(default=30, ge=0, le=600)
    """How long a stopping server waits for what it has begun."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least serious line that is logged."""

    log_format: Literal["console", "json"] = "json"
    """How log lines are written."""

    @property
    def hook_delay(self) -> timedelta:
        """Return how long after a deployment hook its index starts."""
        return timedelta(seconds=self.hook_delay_seconds)

    @property
    def index_window(self) -> timedelta:
        """Return the least time between two indexes of one endpoint and source."""
        return timedelta(seconds=self.index_window_seconds)

    @field_validator("database_url")
    @classmethod
    def _database_url_is_postgresql(cls, value: str) -> str:
        if not value.startswith(_POSTGRES_SCHEMES):
            raise ValueError("must begin with postgresql://")
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis_url_has_a_known_scheme(cls, value: str) -> str:
        if not value.startswith(_REDIS_SCHEMES):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value

    @field_validator("grpc_address", "http_address", "metrics_address", mode="before")
    @classmethod
    def _addresses_are_host_and_port(cls, value: object) -> object:
        if value == "":
            return None
        if not isinstance(value, str):
            return value
        host, _, port = value.rpartition(":")
        if not port.isdecimal() or int(port) > MAX_PORT:
            raise ValueError("must be host:port")
        return Address(host=host.strip("[]") if host.count(":") > 1 else host, port=int(port))

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
    """Return the settings from the environment; `given` fields win over it.

    Raises:
        SettingsError: one or more variables are missing or impossible; all are named.
    """
    try:
        return EndpointsSettings(**given)
    except ValidationError as error:
        lines = [
            f"KONGFLOW_{str(mistake['loc'][0]).upper()}: {mistake['msg'].removeprefix('Value error, ')}"
            for mistake in error.errors()
        ]
        raise SettingsError("\n".join(lines)) from None
