"""A connection to the endpoints service: where, as whom, in which environment."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from cli.directory import KeptState
from cli.failures import USAGE, CommandError, failures_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import grpc
    from google.protobuf.message import Message

_TLS_FILES: Final = (
    "KONGFLOW_TLS_CA_FILE",
    "KONGFLOW_TLS_CLIENT_CERTIFICATE_FILE",
    "KONGFLOW_TLS_CLIENT_KEY_FILE",
)
DEFAULT_SERVER: Final = "127.0.0.1:50051"
_TARGET_SCHEMES: Final = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "xds:")
_MAX_PORT: Final = 65_535
CALL_SECONDS: Final = 15.0
# Above what the server gives an interactive ping, so that its reason arrives.
PING_SECONDS: Final = 40.0
MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_PAGE_SIZE: Final = 1000
_API_KEY_PREFIX: Final = "tr_"


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """Where to call, as whom and in which environment; an empty environment is the credential's own.

    An embedded server, as `kongflow up` starts it, speaks plaintext whatever this shell keeps for calls to others.
    """

    server: str
    token: str
    environment_id: str
    is_embedded: bool = False


def resolve_target(*, server: str, token: str, environment: str = "", as_admin: bool = False) -> Target:
    """Complete what was given with what `kongflow up` keeps; `as_admin` takes its admin token.

    A kept token goes to the kept server only. The kept environment is not assumed for another server, nor for an API
    key, which has one of its own.

    Raises:
        CommandError: there is no credential, or one that cannot be sent, or `server` is no address of gRPC's.
    """
    if server and not _is_target(server):
        raise CommandError(
            f"--server or KONGFLOW_SERVER must be host:port, such as {DEFAULT_SERVER}, not {server!r:.100}.",
            exit_code=USAGE,
        )
    kept = KeptState.of_this_shell()
    credential = token or _kept_token(kept, server, as_admin=as_admin)
    if not (credential.isascii() and credential.isprintable()):
        raise CommandError("The token holds what no token does, such as a line break.", exit_code=USAGE)
    has_environment_of_its_own = credential.startswith(_API_KEY_PREFIX)
    if not environment and not server and not has_environment_of_its_own:
        environment = kept.fact("environment_id")
    return Target(
        server=server or _kept_server(kept),
        token=credential,
        environment_id=environment,
        is_embedded=not server and not token and bool(kept.fact("server")),
    )


def _is_target(server: str) -> bool:
    """Tell whether gRPC may find a server by this text: a host, with a port or without, or a name of its own schemes.

    Source: gRPC Name Resolution.
    """
    if server.startswith(_TARGET_SCHEMES):
        return True
    host, colon, port = server.removesuffix("]").rpartition(":")
    is_port = port.isascii() and port.isdecimal() and 0 < int(port) <= _MAX_PORT
    return "/" not in server and (not colon or server.endswith("]") or (bool(host) and is_port))


def _kept_server(kept: KeptState) -> str:
    return kept.fact("server") or DEFAULT_SERVER


def _kept_token(kept: KeptState, server: str, *, as_admin: bool) -> str:
    if server and server != _kept_server(kept):
        raise CommandError(f"There is no token for {server}: set KONGFLOW_TOKEN.", exit_code=USAGE)
    if credential := kept.secret("admin-token" if as_admin else "service-token"):
        return credential
    raise CommandError(
        f"There is no token: set KONGFLOW_TOKEN, or start `kongflow up`, which keeps one in {kept.directory}.",
        exit_code=USAGE,
    )


class Connection:
    """Calls the contract's methods by service and method name, with the target's credential."""

    def __init__(self, channel: grpc.Channel, target: Target) -> None:
        self.target = target
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {target.token}"),)

    def call(self, method: str, request: Message, *, timeout: float = CALL_SECONDS) -> Any:  # noqa: ANN401 - by method
        """Call a unary method named `Service.Method`; `timeout` in seconds.

        Raises:
            CommandError: the server refused or cannot be reached.
        """
        with failures_of(self.target.server):
            return self._method(method)(request, metadata=self._metadata, timeout=timeout)

    def stream(self, method: str, request: Message) -> Iterator[Any]:
        """Call a streaming method and yield its answers; gRPC's own errors pass."""
        yield from self._method(method)(request, metadata=self._metadata)

    def list_all(self, method: str, request: Any, *, field: str, limit: int | None = None) -> Any:  # noqa: ANN401 - by method
        """Return one answer of a List method with the entries of all pages, at most `limit` of them.

        Raises:
            CommandError: the server refused or cannot be reached.
        """
        request.page_size = min(limit or _PAGE_SIZE, _PAGE_SIZE)
        everything = self.call(method, request)
        entries = getattr(everything, field)
        page = everything
        while page.next_page_token and (limit is None or len(entries) < limit):
            request.page_token = page.next_page_token
            page = self.call(method, request)
            entries.extend(getattr(page, field))
        if limit is not None:
            del entries[limit:]
        everything.next_page_token = ""
        return everything

    def _method(self, method: str) -> Any:  # noqa: ANN401 - stubs are typed by service
        from kongflow.v1 import (  # noqa: PLC0415 - `kongflow --help` starts without them
            catalog_service_pb2_grpc,
            dispatcher_service_pb2_grpc,
            endpoint_service_pb2_grpc,
            event_service_pb2_grpc,
            queue_service_pb2_grpc,
            run_service_pb2_grpc,
            tenancy_service_pb2_grpc,
        )

        service, name = method.split(".")
        stubs: dict[str, Any] = {
            "CatalogService": catalog_service_pb2_grpc.CatalogServiceStub,
            "DispatcherService": dispatcher_service_pb2_grpc.DispatcherServiceStub,
            "EndpointService": endpoint_service_pb2_grpc.EndpointServiceStub,
            "EventService": event_service_pb2_grpc.EventServiceStub,
            "QueueService": queue_service_pb2_grpc.QueueServiceStub,
            "RunService": run_service_pb2_grpc.RunServiceStub,
            "TenancyService": tenancy_service_pb2_grpc.TenancyServiceStub,
        }
        return getattr(stubs[service](self._channel), name)


def service_config() -> str:
    """Return what gRPC does by itself: it repeats idempotent calls that were UNAVAILABLE, for at most three seconds.

    It does not look at health as other clients do: people are to read why a server does not serve.
    """
    config = json.loads(resources.files("kongflow.v1").joinpath("service_config.json").read_text(encoding="utf-8"))
    del config["healthCheckConfig"]
    return json.dumps(config)


@contextmanager
def connected(target: Target) -> Iterator[Connection]:
    """Open a connection for the time of the block; nothing is sent before the first call."""
    import grpc  # noqa: PLC0415 - `kongflow --help` starts without it

    options = [
        ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
        ("grpc.service_config", service_config()),
        # A server that went away without a word is noticed while a command waits for it.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
    ]
    credentials = None if target.is_embedded else credentials_of_this_shell()
    if credentials is None:
        opened = grpc.insecure_channel(target.server, options=options)
    else:
        opened = grpc.secure_channel(target.server, credentials, options=options)
    with opened as channel:
        yield Connection(channel, target)


def credentials_of_this_shell() -> grpc.ChannelCredentials | None:
    """Return how the server is known and what is shown to it, by the files the environment names; None is plaintext.

    KONGFLOW_TLS_CA_FILE switches TLS on; KONGFLOW_TLS_CLIENT_CERTIFICATE_FILE and KONGFLOW_TLS_CLIENT_KEY_FILE are for
    servers that ask for a certificate.

    Raises:
        CommandError: a file is missing, of another kind, or one of the two is given without the other.
    """
    from services import tls  # noqa: PLC0415 - `kongflow --help` starts without the services

    authorities, certificate, key = (Path(name) if (name := os.environ.get(each)) else None for each in _TLS_FILES)
    if authorities is None:
        return None
    try:
        tls.check_authorities(authorities)
        if certificate is not None and key is not None:
            tls.check_pair(certificate, key)
        elif certificate is not None or key is not None:
            raise CommandError(f"{_TLS_FILES[1]} and {_TLS_FILES[2]} must be given together.", exit_code=USAGE)
    except tls.BadCertificateError as error:
        raise CommandError(f"The files of TLS cannot be used: {error}.", exit_code=USAGE) from error
    return tls.client_credentials(authorities=authorities, certificate=certificate, key=key)
