"""What the adapters are told of the settings."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from services.endpoints.domain.ports.store import Pool
from services.endpoints.operations.limits import CallLimits
from services.endpoints.rpc.deadlines import Deadlines
from services.endpoints.store.postgres import DEFAULT_POOLS, PoolSettings
from services.tls import server_credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

    import grpc

    from services.endpoints.settings import EndpointsSettings


def pools_of(settings: EndpointsSettings) -> Mapping[Pool, PoolSettings]:
    """Return how each pool of connections behaves."""
    call_backs = (
        settings.database_call_backs_statement_timeout_seconds,
        settings.database_call_backs_lock_timeout_seconds,
    )
    callers = (settings.database_callers_statement_timeout_seconds, settings.database_callers_lock_timeout_seconds)
    relay = (settings.database_relay_statement_timeout_seconds, settings.database_relay_lock_timeout_seconds)
    given = {
        Pool.CALLERS: (settings.callers_pool_size, *callers),
        Pool.READERS: (settings.readers_pool_size, *callers),
        Pool.LISTS: (settings.lists_pool_size, *callers),
        Pool.CALLS: (settings.calls_pool_size, *call_backs),
        Pool.CALL_BACKS: (settings.call_backs_pool_size, *call_backs),
        Pool.RELAY: (settings.relay_pool_size, *relay),
        Pool.LEASES: (DEFAULT_POOLS[Pool.LEASES].max_size, *relay),
    }
    pools = {
        pool: replace(
            DEFAULT_POOLS[pool],
            max_size=size,
            statement_timeout=timedelta(seconds=statement_timeout),
            lock_timeout=timedelta(seconds=lock_timeout),
            idle_in_transaction_timeout=timedelta(seconds=settings.database_idle_in_transaction_timeout_seconds),
            tcp_user_timeout=timedelta(seconds=settings.database_tcp_user_timeout_seconds),
        )
        for pool, (size, statement_timeout, lock_timeout) in given.items()
    }
    return pools | {Pool.LEASES: replace(pools[Pool.LEASES], silence=settings.ledger.renewal_takes / 2)}


def deadlines_of(settings: EndpointsSettings) -> Deadlines:
    """Return how long unary calls may take."""
    return Deadlines(
        default=timedelta(seconds=settings.rpc_default_deadline_seconds),
        pinging=timedelta(seconds=settings.rpc_ping_deadline_seconds),
        call_back=timedelta(seconds=settings.rpc_call_back_deadline_seconds),
        longest=timedelta(seconds=settings.rpc_max_deadline_seconds),
    )


def credentials_of(settings: EndpointsSettings) -> grpc.ServerCredentials | None:
    """Return what the gRPC server proves itself with, None for plaintext.

    Raises:
        OSError: a file cannot be read.
    """
    if settings.tls_certificate_file is None or settings.tls_key_file is None:
        return None
    return server_credentials(
        certificate=settings.tls_certificate_file,
        key=settings.tls_key_file,
        client_authorities=settings.tls_client_ca_file,
    )


def call_limits_of(settings: EndpointsSettings) -> CallLimits:
    """Return what each tenant may ask for."""
    return CallLimits(
        calls_per_second=settings.tenant_calls_per_second,
        burst=settings.tenant_calls_burst,
        at_once=settings.tenant_calls_at_once,
    )
