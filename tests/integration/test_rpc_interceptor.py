"""What happens around a call, shown on a server with one service and handlers that misbehave."""

from __future__ import annotations

import asyncio
import errno
import time
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import structlog
from kongflow.v1 import endpoint_service_pb2 as messages
from kongflow.v1.endpoint_pb2 import Endpoint
from kongflow.v1.endpoint_service_pb2_grpc import EndpointServiceServicer, add_EndpointServiceServicer_to_server

from services.endpoints.domain.callers import MANY, Callers
from services.endpoints.domain.errors import KongflowError, NotFoundError, UnauthenticatedError
from services.endpoints.domain.tenancy import Principal, PrincipalKind, Scope
from services.endpoints.operations.limits import CallLimits, TenantLimits
from services.endpoints.rpc import interceptors
from services.endpoints.rpc.auth import current_principal
from services.endpoints.rpc.draining import Drain
from services.endpoints.rpc.interceptors import CallInterceptor
from tests.support.eventually import eventually
from tests.support.rpc import Caller, CallJournal, CallRecord, refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

READER = Principal(PrincipalKind.SERVICE, "token:reader", scopes=frozenset({Scope.READ}))
GET = "/kongflow.v1.EndpointService/GetEndpoint"
WATCH = "/kongflow.v1.EndpointService/WatchEndpointIndex"
REQUEST = messages.GetEndpointRequest(endpoint_id="x")
TICK, FOREVER = timedelta(milliseconds=10), timedelta(hours=1)


class OneReader:
    async def authenticate(self, credential: str) -> Principal:
        if credential != "reader":
            raise UnauthenticatedError
        return READER


class Scripted(EndpointServiceServicer):
    """Answers with whatever a test says."""

    def __init__(self, behave: Callable[[], Awaitable[Any]]) -> None:
        self.behave = behave

    async def GetEndpoint(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the contract's
        return await self.behave()

    async def WatchEndpointIndex(self, request: Any, context: Any) -> Any:  # noqa: ARG002, N802 - the contract's
        yield messages.WatchEndpointIndexResponse()
        await self.behave()


@asynccontextmanager
async def serving(
    behave: Callable[[], Awaitable[Any]], callers: Callers | None = None, drain: Drain | None = None
) -> AsyncIterator[tuple[Caller, CallJournal]]:
    journal = CallJournal()
    interceptor = CallInterceptor(
        authenticator=OneReader(),
        observer=journal,
        callers=callers or Callers(),
        limits=TenantLimits(limits=CallLimits(), monotonic=time.monotonic),
        drain=drain or Drain(),
        new_reference=lambda: "ref-1",
    )
    server = grpc.aio.server(interceptors=(interceptor,), options=(("grpc.so_reuseport", 0),))
    add_EndpointServiceServicer_to_server(Scripted(behave), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    caller = Caller(f"127.0.0.1:{port}", "reader")
    try:
        yield caller, journal
    finally:
        await caller.channel.close()
        await server.stop(None)


async def test_the_servicer_knows_who_calls() -> None:
    async def behave() -> messages.GetEndpointResponse:
        return messages.GetEndpointResponse(endpoint=Endpoint(id=current_principal().name))

    async with serving(behave) as (caller, journal):
        assert (await caller.endpoints.GetEndpoint(REQUEST)).endpoint.id == "token:reader"
        assert journal.calls == [CallRecord(GET, "OK")]


async def test_callers_are_counted_while_they_wait_and_watchers_are_not() -> None:
    callers = Callers()
    release = asyncio.Event()

    async def behave() -> messages.GetEndpointResponse:
        await release.wait()
        return messages.GetEndpointResponse()

    async with serving(behave, callers) as (caller, _):
        watches = [caller.endpoints.WatchEndpointIndex(messages.WatchEndpointIndexRequest()) for _ in range(MANY)]
        assert [await watch.read() for watch in watches] == [messages.WatchEndpointIndexResponse()] * MANY
        assert not callers.are_many
        calls = [caller.endpoints.GetEndpoint(REQUEST) for _ in range(MANY)]
        await eventually(lambda: callers.are_many)
        release.set()
        await asyncio.gather(*calls)
        await eventually(lambda: not callers.are_many)


async def test_a_defect_becomes_a_fixed_text_with_a_reference_that_is_in_the_log() -> None:
    async def behave() -> None:
        raise RuntimeError("password=hunter2")

    with structlog.testing.capture_logs() as logs:
        async with serving(behave) as (caller, journal):
            refusal = await refused(caller.endpoints.GetEndpoint(REQUEST))
            await eventually(lambda: journal.calls == [CallRecord(GET, "INTERNAL")])
    assert refusal.code is grpc.StatusCode.INTERNAL
    assert refusal.metadata == {"reference": "ref-1"}
    assert "hunter2" not in refusal.message
    defects = [log for log in logs if log.get("reference") == "ref-1"]
    assert isinstance(defects[0]["exc_info"], RuntimeError)


@pytest.mark.parametrize(
    ("error", "missing"), [(MemoryError(), "memory"), (OSError(errno.EMFILE, "too many"), "file descriptors")]
)
async def test_a_server_without_room_for_a_call_says_what_is_missing(error: Exception, missing: str) -> None:
    async def behave() -> None:
        raise error

    async with serving(behave) as (caller, journal):
        refusal = await refused(caller.endpoints.GetEndpoint(REQUEST))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
        assert missing in refusal.message
        assert "google.rpc.RetryInfo" in refusal.details
        await eventually(lambda: journal.calls == [CallRecord(GET, "RESOURCE_EXHAUSTED")])


async def test_a_cancellation_from_inside_does_not_hang_the_caller() -> None:
    async def behave() -> None:
        raise asyncio.CancelledError

    with structlog.testing.capture_logs() as logs:
        async with serving(behave) as (caller, journal):
            refusal = await refused(caller.endpoints.GetEndpoint(REQUEST, timeout=60))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "INTERRUPTED")
            assert "google.rpc.RetryInfo" in refusal.details
            assert refusal.metadata == {"reference": "ref-1"}
            await eventually(lambda: journal.calls == [CallRecord(GET, "UNAVAILABLE")])
    interruptions = [(log["event"], log["log_level"]) for log in logs if log.get("reference") == "ref-1"]
    assert interruptions == [("call_was_interrupted", "warning")]


async def test_a_cancellation_from_inside_ends_a_stream_at_once() -> None:
    async def behave() -> None:
        raise asyncio.CancelledError

    async with serving(behave) as (caller, journal):
        received = aiter(caller.endpoints.WatchEndpointIndex(messages.WatchEndpointIndexRequest(), timeout=60))
        assert await anext(received) == messages.WatchEndpointIndexResponse()
        refusal = await refused(anext(received))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "INTERRUPTED")
        await eventually(lambda: journal.calls == [CallRecord(WATCH, "UNAVAILABLE")])


async def test_a_defect_of_a_stream_is_masked_as_well() -> None:
    async def behave() -> None:
        raise RuntimeError("password=hunter2")

    async with serving(behave) as (caller, _):
        received = aiter(caller.endpoints.WatchEndpointIndex(messages.WatchEndpointIndexRequest()))
        await anext(received)
        refusal = await refused(anext(received))
        assert (refusal.code, refusal.metadata) == (grpc.StatusCode.INTERNAL, {"reference": "ref-1"})
        assert "hunter2" not in refusal.message


async def test_a_server_that_stops_says_so_to_whoever_calls_and_does_nothing_for_them() -> None:
    drain = Drain()
    done = 0

    async def behave() -> messages.GetEndpointResponse:
        nonlocal done
        done += 1
        return messages.GetEndpointResponse()

    async with serving(behave, drain=drain) as (caller, _):
        await caller.endpoints.GetEndpoint(REQUEST)
        drain.begin()
        watch = caller.endpoints.WatchEndpointIndex(messages.WatchEndpointIndexRequest())
        for refusal in (await refused(caller.endpoints.GetEndpoint(REQUEST)), await refused(anext(aiter(watch)))):
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
            assert "google.rpc.RetryInfo" in refusal.details
    assert done == 1


@pytest.mark.parametrize(("quiet", "at_most"), [(FOREVER, TICK), (TICK, FOREVER)])
async def test_a_server_that_stops_waits_until_nobody_calls_or_its_time_is_up(
    quiet: timedelta, at_most: timedelta
) -> None:
    drain = Drain()
    drain.begin()
    with pytest.raises(KongflowError, match="is stopping"):
        drain.admit()

    async with asyncio.timeout(10):
        await drain.noticed(quiet=quiet, at_most=at_most)


async def test_a_caller_that_goes_away_cancels_the_handler() -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()

    async def behave() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(behave) as (caller, journal):
        call = caller.endpoints.GetEndpoint(REQUEST)
        waiting = asyncio.ensure_future(call)
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(cancelled.wait(), 10)
        assert await eventually(lambda: journal.calls == [CallRecord(GET, "CANCELLED")])


async def test_a_deadline_that_passes_is_told_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    async def behave() -> None:
        await asyncio.Event().wait()

    # On a slow machine, too, the reason arrives before the caller gives up.
    monkeypatch.setattr(interceptors, "time_to_work", lambda deadline: deadline / 10)
    async with serving(behave) as (caller, journal):
        refusal = await refused(caller.endpoints.GetEndpoint(REQUEST, timeout=5.0))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
        # The caller has its answer a moment before the call is noted.
        await eventually(lambda: journal.calls == [CallRecord(GET, "DEADLINE_EXCEEDED")])


async def test_a_timeout_of_the_handlers_own_is_a_defect_and_no_deadline() -> None:
    async def behave() -> None:
        raise TimeoutError("some other timeout")

    async with serving(behave) as (caller, _):
        assert (await refused(caller.endpoints.GetEndpoint(REQUEST))).code is grpc.StatusCode.INTERNAL


async def test_bytes_that_are_no_message_are_an_invalid_request() -> None:
    async def behave() -> None:
        raise AssertionError("must not be called")

    async with serving(behave) as (caller, _):
        for raw in (b"\xff\xff\xff", b"\x0a\x02\xff\xfe"):
            refusal = await refused(caller.send(GET, raw))
            assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
            assert "protobuf" not in refusal.message.lower()


async def test_bytes_that_are_no_message_are_an_invalid_request_of_a_stream_too() -> None:
    async def behave() -> None:
        raise AssertionError("must not be called")

    async with serving(behave) as (caller, _):
        watch: Any = caller.channel.unary_stream(WATCH)
        refusal = await refused(anext(aiter(watch(b"\xff\xff\xff"))))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")


async def test_unknown_fields_are_ignored() -> None:
    async def behave() -> messages.GetEndpointResponse:
        return messages.GetEndpointResponse()

    async with serving(behave) as (caller, _):
        assert await caller.send(GET, REQUEST.SerializeToString() + b"\xfa\x3f\x01x") == b""


async def test_a_method_that_is_not_there_is_unimplemented() -> None:
    async def behave() -> None:
        raise AssertionError("must not be called")

    async with serving(behave) as (caller, _):
        for method in ("/kongflow.v1.EndpointService/Nothing", "/kongflow.v9.Nothing/Nothing"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await caller.send(method, b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_missing_scope_is_denied_before_the_request_is_looked_at() -> None:
    async def behave() -> None:
        raise AssertionError("must not be called")

    async with serving(behave) as (caller, _):
        refusal = await refused(caller.send("/kongflow.v1.EndpointService/DeleteEndpoint", b"\xff"))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED")
        assert "write" in refusal.message


async def test_a_stream_that_fails_says_why_after_what_it_has_sent() -> None:
    async def behave() -> None:
        raise NotFoundError("index", "x")

    async with serving(behave) as (caller, journal):
        call = caller.endpoints.WatchEndpointIndex(messages.WatchEndpointIndexRequest())
        received = aiter(call)
        assert await anext(received) == messages.WatchEndpointIndexResponse()
        refusal = await refused(anext(received))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
        await eventually(lambda: journal.calls == [CallRecord(WATCH, "NOT_FOUND")])


async def test_a_watcher_that_goes_away_ends_its_stream() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def behave() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(behave) as (caller, journal):
        call = caller.endpoints.WatchEndpointIndex(messages.WatchEndpointIndexRequest())
        await anext(aiter(call))
        await asyncio.wait_for(begun.wait(), 10)
        call.cancel()
        await asyncio.wait_for(ended.wait(), 10)
        assert await eventually(lambda: journal.calls == [CallRecord(WATCH, "CANCELLED")], within=timedelta(seconds=10))


@pytest.mark.parametrize("credential", [None, "", "wrong", "reader extra", "caf~"])
async def test_every_bad_credential_reads_the_same(credential: str | None) -> None:
    async def behave() -> None:
        raise AssertionError("must not be called")

    async with serving(behave) as (caller, _):
        stranger = Caller(caller.address, credential)
        refusal = await refused(stranger.endpoints.GetEndpoint(REQUEST))
        await stranger.channel.close()
        assert refusal.code is grpc.StatusCode.UNAUTHENTICATED
        assert refusal.message == UnauthenticatedError().message
