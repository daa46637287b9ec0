"""Sends one call of the endpoint protocol: headers, signature, span, and the key that the endpoint takes."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog

from services.endpoints.delivery.signatures import signature_headers
from services.endpoints.delivery.transport import NoAnswerError
from services.endpoints.domain.endpoint_calls import EndpointCallError, no_response_text
from services.endpoints.domain.ports.tracer import SpanKind
from services.endpoints.domain.tracing import NO_SPAN, current_traceparent, is_sampled, spanning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from services.endpoints.delivery.transport import HttpTransport
    from services.endpoints.domain.endpoint_calls import Action, EndpointAddress, RawAnswer
    from services.endpoints.domain.ports.tracer import Span, Tracer

PROTOCOL_VERSION: Final = "2023-09-29"
UNAUTHORIZED: Final = 401

_JSON: Final = "application/json"

_log = structlog.get_logger(__name__)


class CallSender:
    """Sends calls through a transport that its owner opens and closes."""

    def __init__(
        self, *, transport: HttpTransport, user_agent: str, clock: Callable[[], datetime], tracer: Tracer
    ) -> None:
        """Hold the ports; `clock` is used for the time of a signature."""
        self._transport = transport
        self._user_agent = user_agent
        self._clock = clock
        self._tracer = tracer

    async def send(
        self,
        action: Action,
        address: EndpointAddress,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: timedelta,
        keeps_every_body: bool,
    ) -> RawAnswer:
        """Return the endpoint's answer, of whatever status.

        An endpoint that answers 401 while the environment has a previous API key is asked once more with that key: it
        may not know the new one yet, and has not begun what it refused. Both together take no longer than `timeout`,
        have the same id, and what counts is the second answer.

        Raises:
            EndpointCallError: there was no answer.
        """

        async def post(api_key: str, spent: timedelta) -> RawAnswer:
            return await self._transport.post(
                address.url,
                headers={
                    **_trace_headers(),
                    "x-trigger-api-key": api_key,
                    "x-trigger-action": action.value,
                    "x-trigger-version": PROTOCOL_VERSION,
                    "Accept": _JSON,
                    "User-Agent": self._user_agent,
                    **self._signature(address, body),
                    **headers,
                },
                body=body,
                timeout=timeout,
                spent=spent,
                keeps_every_body=keeps_every_body,
            )

        try:
            with self._spanning(action) as span:
                answer = await post(address.api_key, timedelta())
                if answer.status == UNAUTHORIZED and address.previous_api_key is not None:
                    span.note("http.request.resend_count", 1)
                    refused, answer = answer, await post(address.previous_api_key, answer.duration)
                    answer = replace(answer, duration=refused.duration + answer.duration)
                    if answer.status != UNAUTHORIZED:
                        _log.info("endpoint_took_previous_api_key", slug=address.slug, action=action.value)
                span.note("http.response.status_code", answer.status)
                return answer
        except NoAnswerError as failure:
            raise EndpointCallError(
                no_response_text(address.url), failure=failure.failure, detail=failure.detail
            ) from failure

    @contextmanager
    def _spanning(self, action: Action) -> Iterator[Span]:
        parent = current_traceparent()
        if not self._tracer.is_on or not is_sampled(parent):
            yield NO_SPAN
            return
        name = f"endpoint {action.value}"
        facts = {"http.request.method": "POST"}
        with spanning(self._tracer, name, kind=SpanKind.CLIENT, parent=parent, attributes=facts) as span:
            yield span

    def _signature(self, address: EndpointAddress, body: bytes | None) -> Mapping[str, str]:
        if address.signing is None:
            return {}
        return signature_headers(
            call_id=address.signing.call_id, sent_at=self._clock(), body=body or b"", secrets=address.signing.secrets
        )


def _trace_headers() -> dict[str, str]:
    traceparent = current_traceparent()
    return {} if traceparent is None else {"traceparent": traceparent}
