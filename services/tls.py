"""Certificates of gRPC: read from files, checked before anything listens or connects."""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import grpc


class BadCertificateError(Exception):
    """A file of TLS is absent or is not what it should be; the text is a sentence without what the file holds."""


def path_or_none(value: object) -> object:
    """Return None for an empty text, which is how an environment says that there is no file."""
    return None if value == "" else value


def check_authorities(path: Path) -> None:
    """Check that a file holds certificates of authorities in PEM.

    Raises:
        BadCertificateError: it is absent or holds something else.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (OSError, ValueError) as error:
        raise BadCertificateError("must be a readable file of certificates in PEM") from error


def check_pair(certificate: Path, key: Path) -> None:
    """Check that two files hold a certificate, with those that lead to its authority, and its unencrypted key in PEM.

    Raises:
        BadCertificateError: one is absent or holds something else, or they do not belong together.
    """
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ValueError) as error:
        raise BadCertificateError(
            "must be a readable, unencrypted key in PEM that belongs to the certificate"
        ) from error


def server_credentials(*, certificate: Path, key: Path, client_authorities: Path | None) -> grpc.ServerCredentials:
    """Return what a gRPC server shows; with `client_authorities` it takes only clients whom one of them vouches for.

    Raises:
        OSError: a file is gone.
    """
    import grpc  # noqa: PLC0415 - settings are checked without it

    authorities = client_authorities.read_bytes() if client_authorities is not None else None
    return grpc.ssl_server_credentials(
        [(key.read_bytes(), certificate.read_bytes())],
        root_certificates=authorities,
        require_client_auth=authorities is not None,
    )


def client_credentials(*, authorities: Path, certificate: Path | None, key: Path | None) -> grpc.ChannelCredentials:
    """Return how a gRPC client knows its server, and what it shows itself when there is a pair.

    Raises:
        OSError: a file is gone.
    """
    import grpc  # noqa: PLC0415 - `kongflow --help` starts without it

    return grpc.ssl_channel_credentials(
        root_certificates=authorities.read_bytes(),
        private_key=key.read_bytes() if key is not None else None,
        certificate_chain=certificate.read_bytes() if certificate is not None else None,
    )


def is_loopback(host: str) -> bool:
    """Tell whether a host to listen on can be reached from this machine only; names but `localhost` cannot be known."""
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
