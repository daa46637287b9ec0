"""gRPC over TLS and mutual TLS: the server, a worker's client and the command line's."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from kongflow.v1.tenancy_service_pb2 import ListEnvironmentsRequest, ListEnvironmentsResponse

from cli.connection import connected, resolve_target
from cli.failures import CommandError
from services.endpoints.app import Listening, run
from services.tls import client_credentials
from services.worker.client import WorkerClient
from services.worker.metrics import WorkerMetrics
from tests.support.certificates import Authority
from tests.support.eventually import eventually
from tests.support.pair import ADMIN_TOKEN, endpoints_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

Serve = Any


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ours")


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "strange")


@pytest.fixture
def serving(database_url: str, redis_url: str, authority: Authority) -> Serve:
    """Runs the service with a certificate of ours; gives the port of gRPC."""

    @asynccontextmanager
    async def serving(**given: Any) -> AsyncIterator[int]:
        pair = authority.issue("server")
        settings = endpoints_settings(
            database_url=database_url,
            redis_url=redis_url,
            tls_certificate_file=pair.certificate,
            tls_key_file=pair.key,
            **given,
        )
        stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()

        def heard(where: Listening) -> None:
            listening.set_result(where.grpc_port)

        running = asyncio.create_task(run(settings, stop, heard))
        try:
            yield await listening
        finally:
            stop.set()
            await running

    return serving


async def health(port: int, credentials: grpc.ChannelCredentials | None) -> int:
    target = f"127.0.0.1:{port}"
    channel = grpc.aio.insecure_channel(target) if credentials is None else grpc.aio.secure_channel(target, credentials)
    async with channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)
        status: int = answer.status
        return status


async def refusal(port: int, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await health(port, credentials)
    code: grpc.StatusCode = refused.value.code()
    return code


def known_by(authority: Authority) -> grpc.ChannelCredentials:
    return client_credentials(authorities=authority.file, certificate=None, key=None)


def shown(authority: Authority, voucher: Authority) -> grpc.ChannelCredentials:
    pair = voucher.issue("client")
    return client_credentials(authorities=authority.file, certificate=pair.certificate, key=pair.key)


async def test_a_server_with_a_certificate_answers_who_knows_its_authority_and_nobody_else(
    serving: Serve, authority: Authority, stranger: Authority
) -> None:
    async with serving() as port:
        assert await health(port, known_by(authority))
        assert await refusal(port, known_by(stranger)) is grpc.StatusCode.UNAVAILABLE
        assert await refusal(port, None) is grpc.StatusCode.UNAVAILABLE


async def test_a_server_with_mutual_tls_answers_only_whom_its_authority_vouches_for(
    serving: Serve, authority: Authority, stranger: Authority
) -> None:
    async with serving(tls_client_ca_file=authority.file) as port:
        assert await health(port, shown(authority, authority))
        assert await refusal(port, known_by(authority)) is grpc.StatusCode.UNAVAILABLE
        assert await refusal(port, shown(authority, stranger)) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("is_known", [True, False])
async def test_a_worker_reaches_a_server_that_it_knows(
    serving: Serve, authority: Authority, stranger: Authority, *, is_known: bool
) -> None:
    async with serving(tls_client_ca_file=authority.file) as port:
        client = WorkerClient(
            target=f"dns:///localhost:{port}",
            token="kf_worker",
            call_timeout=timedelta(seconds=5),
            credentials=shown(authority if is_known else stranger, authority),
            metrics=WorkerMetrics(),
        )
        try:
            if is_known:
                # It is reached when it says that it does not know the token.
                await eventually(lambda: client.is_reachable or client.refusal == "UNAUTHENTICATED")
            else:
                await eventually(lambda: not client.is_reachable and _has_failed(client))
        finally:
            await client.close()


def _has_failed(client: WorkerClient) -> bool:
    return client._channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE


async def test_the_command_line_reads_its_files_from_the_environment(
    serving: Serve, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tls_client_ca_file=authority.file) as port:
        target = resolve_target(server=f"localhost:{port}", token=ADMIN_TOKEN)

        def list_environments() -> ListEnvironmentsResponse:
            with connected(target) as connection:
                answer: ListEnvironmentsResponse = connection.call(
                    "TenancyService.ListEnvironments", ListEnvironmentsRequest()
                )
                return answer

        with pytest.raises(CommandError):
            await asyncio.to_thread(list_environments)
        pair = authority.issue("person")
        monkeypatch.setenv("KONGFLOW_TLS_CA_FILE", str(authority.file))
        monkeypatch.setenv("KONGFLOW_TLS_CLIENT_CERTIFICATE_FILE", str(pair.certificate))
        monkeypatch.setenv("KONGFLOW_TLS_CLIENT_KEY_FILE", str(pair.key))

        assert await asyncio.to_thread(list_environments) == ListEnvironmentsResponse()
        monkeypatch.delenv("KONGFLOW_TLS_CLIENT_KEY_FILE")
        with pytest.raises(CommandError, match="given together"):
            await asyncio.to_thread(list_environments)
        monkeypatch.setenv("KONGFLOW_TLS_CLIENT_KEY_FILE", str(authority.issue("other").key))
        with pytest.raises(CommandError, match="belongs to the certificate"):
            await asyncio.to_thread(list_environments)
