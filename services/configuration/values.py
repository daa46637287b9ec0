"""Kinds of values that the settings of both services have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict
from pydantic_settings import NoDecode

from services.configuration.urls import MAX_PORT, postgresql_url, redis_url
from services.tls import BadCertificateError, check_authorities, check_pair, path_or_none


class Address(BaseModel):
    """A host and a port to listen on; port 0 lets the system choose. An IPv6 host has no brackets."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int

    def __str__(self) -> str:
        """Return `host:port`, with brackets around an IPv6 host, as gRPC reads it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Return the address of a text such as `127.0.0.1:50051` or `[::1]:50051`; the host may be empty.

    Raises:
        ValueError: it is something else.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > MAX_PORT:
        raise ValueError("must be host:port")
    return Address(host=host.removeprefix("[").removesuffix("]"), port=int(port))


def _address(value: object) -> object:
    if isinstance(value, str):
        return parse_address(value)
    if isinstance(value, Address):
        return value
    raise ValueError("must be host:port")


def _address_or_none(value: object) -> object:
    return None if value is None or value == "" else _address(value)


def readable_authorities(path: Path) -> Path:
    """Return the path of a file that holds certificates of authorities.

    Raises:
        ValueError: it does not.
    """
    try:
        check_authorities(path)
    except BadCertificateError as error:
        raise ValueError(str(error)) from None
    return path


def matching_pair(certificate: Path | None, key: Path | None, *, certificate_variable: str) -> None:
    """Check that a certificate and its key are both given and belong together, or that neither is given.

    Raises:
        ValueError: one is missing, or they are no pair.
    """
    if (key is None) is not (certificate is None):
        raise ValueError(f"must be given together with {certificate_variable}")
    if key is not None and certificate is not None:
        try:
            check_pair(certificate, key)
        except BadCertificateError as error:
            raise ValueError(str(error)) from None


ListenAddress = Annotated[Address, NoDecode, BeforeValidator(_address)]
"""`host:port`."""

OptionalListenAddress = Annotated[Address | None, NoDecode, BeforeValidator(_address_or_none)]
"""`host:port`, or nothing."""

OptionalPath = Annotated[Path | None, BeforeValidator(path_or_none)]
"""A file, or nothing."""

DatabaseUrl = Annotated[str, AfterValidator(postgresql_url)]
"""Where PostgreSQL is."""

RedisUrl = Annotated[str, AfterValidator(redis_url)]
"""Where Redis is."""
