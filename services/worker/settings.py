"""The worker's settings: read once from the environment and a file, every mistake reported together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from services.configuration.durations import Seconds
from services.configuration.settings import ServiceSettings, load
from services.configuration.values import (
    Address,
    OptionalListenAddress,
    OptionalPath,
    RedisUrl,
    matching_pair,
    parse_address,
    readable_authorities,
)

if TYPE_CHECKING:
    from pathlib import Path

_DEFAULT_CONCURRENCY: Final[Mapping[str, int]] = MappingProxyType(
    {"default": 10, "execution": 100, "events": 10, "maintenance": 1}
)
MAX_CONCURRENCY: Final = 10_000
_TARGET_SCHEMES: Final = ("dns:", "ipv4:", "ipv6:", "unix:", "xds:")
_OF_THIS_MACHINE: Final[Mapping[str, str]] = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


def _default_queues(validated: Mapping[str, Any]) -> Mapping[str, int]:
    at_once = int(validated.get("queue_max_workers", _DEFAULT_CONCURRENCY["default"]))
    return MappingProxyType({**_DEFAULT_CONCURRENCY, "default": at_once, "events": at_once})


class WorkerSettings(ServiceSettings):
    """What a worker needs to know; frozen."""

    redis_url: RedisUrl = Field(default="redis://127.0.0.1:6379/0", repr=False)
    """Where the doorbell is (`redis://`, `rediss://`, `unix://`); may hold a password, so it is not shown."""

    grpc_target: str = Field(
        default="dns:///127.0.0.1:50051",
        validation_alias=AliasChoices("KONGFLOW_GRPC_TARGET", "KONGFLOW_GRPC_ADDRESS", "grpc_target"),
    )
    """The endpoints service; a name with several addresses is called in turn. A bare `host:port` becomes `dns:///`."""

    tls_ca_file: OptionalPath = None
    """The authorities, in PEM, one of which must vouch for the endpoints service; plaintext when unset."""

    tls_client_certificate_file: OptionalPath = None
    """What this worker shows where TLS is mutual, in PEM."""

    tls_client_key_file: OptionalPath = Field(default=None, validate_default=True)
    """The key of KONGFLOW_TLS_CLIENT_CERTIFICATE_FILE, unencrypted PEM; given with it or not at all."""

    worker_token: SecretStr = Field(json_schema_extra={"key": "worker.token"})
    """The bearer token that may call WorkerService."""

    queue_max_workers: int = Field(default=10, ge=1, le=MAX_CONCURRENCY, json_schema_extra={"key": "queue.max_workers"})
    """How many calls run at once in the queues `default` and `events` when `worker_queues` is not set."""

    worker_queues: Annotated[Mapping[str, int], NoDecode] = Field(
        default_factory=_default_queues, json_schema_extra={"key": "worker.queues"}
    )
    """How many calls run at once, per queue served: `name:count` pairs with commas; count 1 to 10,000."""

    worker_health_address: OptionalListenAddress = Field(
        default=None, json_schema_extra={"key": "worker.health_address"}
    )
    """`host:port` for `/healthz`, `/readyz` and `/metrics`; nothing listens when unset or empty."""

    worker_grpc_health_address: OptionalListenAddress = Field(
        default=None, json_schema_extra={"key": "worker.grpc_health_address"}
    )
    """`host:port` for `grpc.health.v1`; nothing listens when unset or empty."""

    worker_drain_timeout_seconds: Seconds = Field(
        default=30, ge=0, le=600, json_schema_extra={"key": "worker.drain_timeout"}
    )
    """How long a stopping worker waits for the calls it holds."""

    worker_call_timeout_seconds: Seconds = Field(
        default=45, ge=1, le=300, json_schema_extra={"key": "worker.call_timeout"}
    )
    """The deadline of one call; above the longest work the server does in one."""

    traces_endpoint: str | None = Field(default=None, pattern=r"^https?://[^/@]+(/.*)?$")
    """The OTLP/HTTP collector that traces are sent to, such as `http://127.0.0.1:4318`; none are made when unset."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least serious line that is logged."""

    @property
    def drain_timeout(self) -> timedelta:
        """Return how long a stopping worker waits for the calls it holds."""
        return timedelta(seconds=self.worker_drain_timeout_seconds)

    @property
    def call_timeout(self) -> timedelta:
        """Return the deadline of one call."""
        return timedelta(seconds=self.worker_call_timeout_seconds)

    @field_validator("grpc_target")
    @classmethod
    def _grpc_target_is_a_name_to_resolve(cls, value: str) -> str:
        if value.startswith(_TARGET_SCHEMES):
            return value
        address = parse_address(value)
        # The server's own variable may say on which interfaces it listens; from here they are this machine.
        host = _OF_THIS_MACHINE.get(address.host, address.host)
        return f"dns:///{Address(host=host, port=address.port)}"

    @field_validator("tls_ca_file")
    @classmethod
    def _tls_authorities_are_readable(cls, value: Path | None) -> Path | None:
        return None if value is None else readable_authorities(value)

    @field_validator("tls_client_key_file")
    @classmethod
    def _tls_key_belongs_to_the_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if not {"tls_ca_file", "tls_client_certificate_file"} <= info.data.keys():
            return value
        certificate = info.data["tls_client_certificate_file"]
        if value is not None and certificate is not None and info.data["tls_ca_file"] is None:
            raise ValueError("needs KONGFLOW_TLS_CA_FILE")
        matching_pair(certificate, value, certificate_variable="KONGFLOW_TLS_CLIENT_CERTIFICATE_FILE")
        return value

    @field_validator("worker_token")
    @classmethod
    def _worker_token_fits_a_header(cls, value: SecretStr) -> SecretStr:
        secret = value.get_secret_value()
        if not secret or not secret.isascii() or not secret.isprintable() or " " in secret:
            raise ValueError("must be printable ASCII without spaces")
        return value

    @field_validator("worker_queues", mode="before")
    @classmethod
    def _worker_queues_are_pairs(cls, value: object) -> object:
        return _queues(value) if isinstance(value, str) else value

    @field_validator("worker_queues")
    @classmethod
    def _worker_queues_exist(cls, value: Mapping[str, int]) -> Mapping[str, int]:
        if not value:
            raise ValueError("must name at least one queue")
        for queue, count in value.items():
            if queue not in _DEFAULT_CONCURRENCY:
                raise ValueError(f"{queue!r} is no queue; there are {', '.join(_DEFAULT_CONCURRENCY)}")
            if not 1 <= count <= MAX_CONCURRENCY:
                raise ValueError(f"{queue} must have a count from 1 to {MAX_CONCURRENCY}")
        return MappingProxyType(dict(value))

    @field_validator("worker_health_address", "worker_grpc_health_address")
    @classmethod
    def _health_addresses_name_a_host(cls, value: Address | None) -> Address | None:
        if value is not None and not value.host:
            raise ValueError("must be host:port; 0.0.0.0 listens on every interface")
        return value


def load_settings(**given: Any) -> WorkerSettings:  # noqa: ANN401 - pydantic checks what is given, as it does the environment
    """Return the settings from the environment and the file of KONGFLOW_CONFIG; `given` fields win over both.

    Raises:
        SettingsError: something is missing, impossible or no setting at all; all mistakes are named.
    """
    return load(WorkerSettings, given)


def _queues(text: str) -> dict[str, int]:
    queues: dict[str, int] = {}
    for pair in text.split(","):
        queue, separator, count = (part.strip() for part in pair.partition(":"))
        if not separator or not count.isdecimal():
            raise ValueError("must be name:count pairs with commas, such as default:10,execution:100")
        if queue in queues:
            raise ValueError(f"{queue} is named twice")
        queues[queue] = int(count)
    return queues
