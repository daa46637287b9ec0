"""The port through which use cases call customers' endpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from services.endpoints.domain.endpoint_calls import (
        EndpointAddress,
        IndexAnswer,
        PingResult,
        RawAnswer,
        Reading,
    )
    from services.endpoints.domain.endpoint_wire import (
        HttpSourceDelivery,
        HttpSourceResponse,
        PreprocessRunBody,
        RegisterTriggerBody,
        RunJobBody,
    )
    from services.endpoints.domain.json_text import JsonValue


class EndpointClient(Protocol):
    """Calls one endpoint once: no redirect is followed, every call ends within its timeout.

    Only what an endpoint refuses with 401 is repeated, once, with the previous API key while a rotation overlaps.
    `timeout` covers the whole call, from looking up the name to the answer's last byte; None means the client's own
    (30 s). Every text is the protocol's.
    """

    async def ping(self, address: EndpointAddress, *, timeout: timedelta | None = None) -> PingResult:
        """Ask whether the endpoint is there, takes the key and has the slug; a failure is a result."""
        ...

    async def validate(self, address: EndpointAddress, *, timeout: timedelta | None = None) -> PingResult:
        """Ask which slug lives at the url, `endpoint_id` of the result; a failure is a result."""
        ...

    async def index_endpoint(
        self, address: EndpointAddress, *, read: Callable[[JsonValue], Reading], timeout: timedelta | None = None
    ) -> IndexAnswer[Reading]:
        """Ask what the endpoint offers; `read` turns the JSON, of whatever shape, into what is kept of it.

        `read` may run in a thread. A large answer's JSON takes many times its bytes, so it exists nowhere else.

        Raises:
            EndpointCallError: there was no answer, or one that is not 2xx or not JSON; errors of `read` pass.
        """
        ...

    async def initialize_trigger(
        self, address: EndpointAddress, *, trigger_slug: str, params: JsonValue, timeout: timedelta | None = None
    ) -> RegisterTriggerBody:
        """Ask what a dynamic trigger with these `params` listens to.

        Raises:
            EndpointCallError: there was no answer, or one that is not 2xx, not JSON or not of that shape; when the
                endpoint sent an error of its own, the message is `EndpointApiError: <its message>`.
        """
        ...

    async def preprocess_run(
        self, address: EndpointAddress, body: PreprocessRunBody, *, timeout: timedelta | None = None
    ) -> RawAnswer:
        """Ask for the properties of a run; the answer is of any status and `PreprocessRunResponse` reads it.

        Raises:
            EndpointCallError: there was no answer.
        """
        ...

    async def execute_job(
        self, address: EndpointAddress, body: RunJobBody, *, timeout: timedelta | None = None
    ) -> RawAnswer:
        """Carry a run on; the answer is of any status and `parse_run_job_response` reads it.

        Raises:
            EndpointCallError: there was no answer.
        """
        ...

    async def deliver_http_source_request(
        self, address: EndpointAddress, delivery: HttpSourceDelivery, *, timeout: timedelta | None = None
    ) -> HttpSourceResponse:
        """Replay a stored webhook request to the endpoint that knows its source.

        Raises:
            EndpointCallError: there was no answer, or one that is not 2xx, not JSON or not of that shape.
        """
        ...


class AddressCheck(Protocol):
    """Decides whether a customer's address may be called at all."""

    async def check(self, url: str) -> None:
        """Resolve the host of `url` and look at every address.

        Raises:
            AddressNotAllowedError: one of them is refused.
        """
        ...
