"""The worker's settings: read once from the environment and a file, every mistake reported together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from services.configuration.durations import Seconds
from services.configuration.file import (
    ConfigurationFileError,
    mistake_lines,
    read_file,
    settings_of,
    sources,
    unknown_keys,
)
from services.configuration.keys import KEYS
from services.tls import BadCertificateError, check_authorities, check_pair, path_or_none

_DEFAULT_CONCURRENCY: Final[Mapping[str, int]] = MappingProxyType(
    {"default": 10, "execution": 100, "events": 10, "maintenance": 1}
)
MAX_CONCURRENCY: Final = 10_000
MAX_PORT: Final = 65_535
_REDIS_SCHEMES: Final = ("redis://", "rediss://", "unix://")
_TARGET_SCHEMES: Final = ("dns:", "ipv4:", "ipv6:", "unix:", "xds:")


class SettingsError(Exception):
    """One or more variables have an impossible value; each line of the text names one, without its value."""


class Address(BaseModel):
    """A host and a port to listen on; port 0 lets the system choose."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int


def _default_queues(validated: Mapping[str, Any]) -> Mapping[str, int]:
    at_once = int(validated.get("queue_max_workers", _DEFAULT_CONCURRENCY["default"]))
    return MappingProxyType({**_DEFAULT_CONCURRENCY, "default": at_once, "events": at_once})


class WorkerSettings(BaseSettings):
    """What a worker needs to know; frozen.

    Each field is the environment variable of its name in capitals with the prefix `KONGFLOW_`, and a key of the file
    that KONGFLOW_CONFIG names, where some stand in groups. The environment wins.
    """

    model_config = SettingsConfigDict(
        env_prefix="KONGFLOW_",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    redis_url: str = Field(default="redis://127.0.0.1:6379/0", repr=False)
    """Where the doorbell is (`redis://`, `rediss://`, `unix://`); may hold a password, so it is not shown."""

    grpc_target: str = Field(
        default="dns:///127.0.0.1:50051",
        validation_alias=AliasChoices("KONGFLOW_GRPC_TARGET", "KONGFLOW_GRPC_ADDRESS", "grpc_target"),
    )
    """The endpoints service; a name with several addresses is called in turn. A bare `host:port` becomes `dns:///`."""

    tls_ca_file: Annotated[Path | None, BeforeValidator(path_or_none)] = None
    """The authorities, in PEM, one of which must vouch for the endpoints service; plaintext when unset."""

    tls_client_certificate_file: Annotated[Path | None, BeforeValidator(path_or_none)] = None
    """What this worker shows where TLS is mutual, in PEM."""

    tls_client_key_file: Annotated[Path | None, BeforeValidator(path_or_none)] = Field(
        default=None, validate_default=True
    )
    """The key of KONGFLOW_TLS_CLIENT_CERTIFICATE_FILE, unencrypted PEM; given with it or not at all."""

    worker_token: SecretStr = Field(json_schema_extra={"key": "worker.token"})
    """The bearer token that may call WorkerService."""

    queue_max_workers: int = Field(default=10, ge=1, le=MAX_CONCURRENCY, json_schema_extra={"key": "queue.max_workers"})
    """How many calls run at once in the queues `default` and `events` when `worker_queues` is not set."""

    worker_queues: Annotated[Mapping[str, int], NoDecode] = Field(
        default_factory=_default_queues, json_schema_extra={"key": "worker.queues"}
    )
    """How many calls run at once, per queue served: `name:count` pairs with commas; count 1 to 10,000."""

    worker_health_address: Annotated[Address | None, NoDecode] = Field(
        default=None, json_schema_extra={"key": "worker.health_address"}
    )
    """`host:port` for `/healthz`, `/readyz` and `/metrics`; nothing listens when unset or empty."""

    worker_grpc_health_address: Annotated[Address | None, NoDecode] = Field(
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

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The least serious line that is logged."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic-settings offers all of its own
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the same
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where settings come from, the strongest first: what is given, the environment, the file."""
        return sources(settings_cls, init_settings, env_settings)

    @property
    def drain_timeout(self) -> timedelta:
        """Return how long a stopping worker waits for the calls it holds."""
        return timedelta(seconds=self.worker_drain_timeout_seconds)

    @property
    def call_timeout(self) -> timedelta:
        """Return the deadline of one call."""
        return timedelta(seconds=self.worker_call_timeout_seconds)

    @field_validator("redis_url")
    @classmethod
    def _redis_url_has_a_known_scheme(cls, value: str) -> str:
        if not value.startswith(_REDIS_SCHEMES):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        return value

    @field_validator("grpc_target")
    @classmethod
    def _grpc_target_is_a_name_to_resolve(cls, value: str) -> str:
        if value.startswith(_TARGET_SCHEMES):
            return value
        address = _address(value)
        # The server's own variable may say on which interfaces it listens; from here they are this machine.
        host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}.get(address.host, address.host)  # noqa: S104
        return f"dns:///{host}:{address.port}"

    @field_validator("tls_ca_file")
    @classmethod
    def _tls_authorities_are_readable(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                check_authorities(value)
            except BadCertificateError as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("tls_client_key_file")
    @classmethod
    def _tls_key_belongs_to_the_certificate(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if not {"tls_ca_file", "tls_client_certificate_file"} <= info.data.keys():
            return value
        certificate = info.data["tls_client_certificate_file"]
        if (value is None) is not (certificate is None):
            raise ValueError("must be given together with KONGFLOW_TLS_CLIENT_CERTIFICATE_FILE")
        if value is not None and certificate is not None:
            if info.data["tls_ca_file"] is None:
                raise ValueError("needs KONGFLOW_TLS_CA_FILE")
            try:
                check_pair(certificate, value)
            except BadCertificateError as error:
                raise ValueError(str(error)) from None
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

    @field_validator("worker_health_address", "worker_grpc_health_address", mode="before")
    @classmethod
    def _health_addresses_are_host_and_port(cls, value: object) -> object:
        if value == "":
            return None
        if not isinstance(value, str):
            return value
        address = _address(value)
        if not address.host:
            raise ValueError("must be host:port; 0.0.0.0 listens on every interface")
        return Address(host=address.host.strip("[]"), port=address.port)


def load_settings(**given: Any) -> WorkerSettings:  # noqa: ANN401 - pydantic checks what is given, as it does the environment
    """Return the settings from the environment and the file of KONGFLOW_CONFIG; `given` fields win over both.

    Raises:
        SettingsError: something is missing, impossible or no setting at all; all mistakes are named.
    """
    try:
        mistakes = unknown_keys(read_file(), KEYS | {setting.key for setting in settings_of(WorkerSettings).values()})
    except ConfigurationFileError as error:
        raise SettingsError(str(error)) from error
    try:
        settings = WorkerSettings(**given)
    except ValidationError as error:
        raise SettingsError("\n".join([*mistakes, *mistake_lines(WorkerSettings, error.errors())])) from None
    if mistakes:
        raise SettingsError("\n".join(mistakes))
    return settings


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


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > MAX_PORT:
        raise ValueError("must be host:port")
    return Address(host=host, port=int(port))
