"""What happens around every call: credential, access, deadline, decoding, errors, log and metrics."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc
import structlog
from google.protobuf.message import DecodeError

from services.endpoints.domain.errors import (
    FieldViolation,
    InvalidRequestError,
    KongflowError,
    ServerOverloadedError,
    is_out_of_descriptors,
)
from services.endpoints.rpc.access import ACCESS, Access, require_access
from services.endpoints.rpc.auth import bearer_credential, set_principal, set_readmission
from services.endpoints.rpc.correlation import note_request
from services.endpoints.rpc.deadlines import (
    DEFAULT_DEADLINES,
    Deadlines,
    deadline_error,
    remaining_time,
    time_to_work,
)
from services.endpoints.rpc.errors import grpc_status, internal_error, interrupted_error, status_code
from services.endpoints.rpc.memory import PLENTY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from services.endpoints.domain.callers import Callers
    from services.endpoints.domain.tenancy import Principal
    from services.endpoints.operations.limits import TenantLimits
    from services.endpoints.rpc.draining import Drain
    from services.endpoints.rpc.memory import MemoryGuard

    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

_log = structlog.get_logger(__name__)

# The ledger paces workers; reflection is how people look for a method.
_UNLIMITED: Final = frozenset({Access.WORKER, Access.ANY_CREDENTIAL})


class Authenticator(Protocol):
    """Recognises credentials."""

    async def authenticate(self, credential: str) -> Principal:
        """Return who holds it, or raise UnauthenticatedError."""
        ...


class CallObserver(Protocol):
    """Takes notice of every call that ended."""

    def observe_call(self, method: str, *, code: str, duration: timedelta) -> None:
        """Count a call: `method` is `/package.Service/Method`, `code` the name of its status."""
        ...


@dataclass(slots=True)
class _Call:
    """One call while it is served."""

    method: str
    began: float
    caller: str = "nobody"
    code: grpc.StatusCode = grpc.StatusCode.OK
    reason: str | None = None


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every handler but those that anyone may call.

    Requests are decoded here rather than in the library, which would answer UNKNOWN with the decoder's own words.
    `callers` counts the unary calls that somebody waits for, which workers do not. `limits` count what each tenant
    asks; workers and reflection are not limited. `drain` refuses all of it when the server stops, `memory` when it has
    too little of that. `new_reference` names a defect in the answer and in the log alike.
    """

    def __init__(
        self,
        *,
        authenticator: Authenticator,
        observer: CallObserver,
        callers: Callers,
        limits: TenantLimits,
        drain: Drain,
        memory: MemoryGuard = PLENTY,
        deadlines: Deadlines = DEFAULT_DEADLINES,
        monotonic: Callable[[], float] = time.monotonic,
        new_reference: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        self._authenticator = authenticator
        self._observer = observer
        self._callers = callers
        self._limits = limits
        self._drain = drain
        self._memory = memory
        self._deadlines = deadlines
        self._monotonic = monotonic
        self._new_reference = new_reference

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # noqa: ANN401 - the library's own handlers are untyped
        """Return the handler of a method with everything around it; None for a method that is not there."""
        method = handler_call_details.method
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if ACCESS.get(method) is Access.ANYONE:
            return self._open(handler)
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                self._unary(method, handler), response_serializer=handler.response_serializer
            )
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(
                self._stream(method, handler.unary_stream, _decoder(handler)),
                response_serializer=handler.response_serializer,
            )
        return grpc.stream_stream_rpc_method_handler(
            self._stream(method, handler.stream_stream, _each_decoded(_decoder(handler))),
            response_serializer=handler.response_serializer,
        )

    def _unary(self, method: str, handler: Handler) -> Callable[[bytes, Context], Awaitable[Any]]:
        decode = _decoder(handler)
        behaviour: Any = handler.unary_unary
        counted = nullcontext if ACCESS.get(method) is Access.WORKER else self._callers.calling

        async def serve(raw: bytes, context: Context) -> Any:  # noqa: ANN401 - any response message
            with self._drain.answering():
                async with self._served(method, context):
                    deadline = self._deadlines.of(method, remaining_time(context))
                    try:
                        async with asyncio.timeout(time_to_work(deadline).total_seconds()) as limit:
                            async with self._admitted(method, context):
                                with counted():
                                    return await behaviour(decode(raw), context)
                    except TimeoutError as error:
                        if limit.expired():
                            raise deadline_error(deadline) from error
                        raise

        return serve

    def _open(self, handler: Handler) -> Any:  # noqa: ANN401 - the library's own handlers are untyped
        """Return the handler of a method that anyone may call: nothing is done but decoding, and telling of errors.

        A method that streams writes to the context, as the library's health service does.
        """
        decode = _decoder(handler)
        behaviour: Any = handler.unary_unary or handler.unary_stream

        async def serve(raw: bytes, context: Context) -> Any:  # noqa: ANN401 - any response message
            try:
                return await behaviour(decode(raw), context)
            except grpc.aio.AbortError:
                raise
            except Exception as error:
                await context.abort_with_status(grpc_status(self._answer_to(error)))
                raise

        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(serve, response_serializer=handler.response_serializer)
        return grpc.unary_stream_rpc_method_handler(serve, response_serializer=handler.response_serializer)

    def _stream(
        self,
        method: str,
        behaviour: Callable[[Any, Any], AsyncIterator[Any]],
        decode: Callable[[Any], Any],
    ) -> Callable[[Any, Context], AsyncIterator[Any]]:
        async def serve(raw: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - bytes or an iterator
            async with self._served(method, context), self._admitted(method, context):
                async for response in behaviour(decode(raw), context):
                    yield response

        return serve

    @asynccontextmanager
    async def _admitted(self, method: str, context: Context) -> AsyncIterator[None]:
        """Recognise the caller, count its call, check that it may call the method, and hand it to the servicer."""
        credential = bearer_credential(tuple(context.invocation_metadata() or ()))
        access = ACCESS.get(method)

        async def recognise() -> Principal:
            principal = await self._authenticator.authenticate(credential)
            structlog.contextvars.bind_contextvars(caller=principal.name)
            return principal

        async def readmit() -> None:
            require_access(await recognise(), access)

        principal = await recognise()
        with nullcontext() if access in _UNLIMITED else self._limits.calling(principal):
            require_access(principal, access)
            set_principal(principal)
            set_readmission(readmit)
            yield

    @asynccontextmanager
    async def _served(self, method: str, context: Context) -> AsyncIterator[None]:
        """Turn what a handler raises into a status, then log and count the call."""
        structlog.contextvars.bind_contextvars(method=method)
        call = _Call(method, self._monotonic())
        try:
            self._drain.admit()
            self._memory.admit()
            yield
        except GeneratorExit:
            call.code = grpc.StatusCode.CANCELLED
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # The caller went away or the server stops: nobody waits for a status.
                call.code = grpc.StatusCode.CANCELLED
                raise
            # Something the handler waited for was cancelled; unanswered, the caller would hang until its deadline.
            interrupted = interrupted_error(self._new_reference())
            _log.warning("call_was_interrupted", reference=interrupted.metadata["reference"], exc_info=error)
            await self._fail(call, context, interrupted)
        except grpc.aio.AbortError:
            call.code = context.code()
            raise
        except Exception as error:  # noqa: BLE001 - nothing internal leaves
            await self._fail(call, context, self._answer_to(error))
        finally:
            self._note(call)

    def _answer_to(self, error: Exception) -> KongflowError:
        """Return what a caller is told of an error; a defect is logged here under a reference."""
        if isinstance(error, KongflowError):
            return error
        answer = _overload(error)
        if answer is None:
            answer = internal_error(self._new_reference())
            _log.error("call_failed_with_a_defect", reference=answer.metadata["reference"], exc_info=error)
        return answer

    async def _fail(self, call: _Call, context: Context, answer: KongflowError) -> None:
        call.code, call.reason = status_code(answer), answer.reason.value
        await context.abort_with_status(grpc_status(answer))

    def _note(self, call: _Call) -> None:
        duration = timedelta(seconds=self._monotonic() - call.began)
        self._observer.observe_call(call.method, code=call.code.name, duration=duration)
        write = _log.debug if call.code is grpc.StatusCode.OK else _log.info
        write("call", code=call.code.name, reason=call.reason, milliseconds=round(duration.total_seconds() * 1000, 1))


def _overload(error: Exception) -> KongflowError | None:
    """Return what a call is told that this process has no room for, None for a defect."""
    if isinstance(error, MemoryError):
        return ServerOverloadedError("memory")
    return ServerOverloadedError("file descriptors") if is_out_of_descriptors(error) else None


def _decoder(handler: Handler) -> Callable[[bytes], Any]:
    def decode(raw: bytes) -> Any:  # noqa: ANN401 - any request message
        try:
            request = handler.request_deserializer(raw) if handler.request_deserializer else raw
        except DecodeError as error:
            violation = FieldViolation("", "the bytes are no message of this method; text must be UTF-8")
            raise InvalidRequestError([violation]) from error
        note_request(request)
        return request

    return decode


def _each_decoded(decode: Callable[[bytes], Any]) -> Callable[[AsyncIterator[bytes]], AsyncIterator[Any]]:
    async def decode_each(requests: AsyncIterator[bytes]) -> AsyncIterator[Any]:
        async for raw in requests:
            yield decode(raw)

    return decode_each
