from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from aiohttp.test_utils import TestClient, TestServer

from services.endpoints.domain.errors import (
    DatabaseUnavailableError,
    KongflowError,
    NoConnectionFreeError,
    Reason,
    ServerOverloadedError,
)
from services.endpoints.http.server import hooks_and_health

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KongflowError("Too many calls.", reason=Reason.RATE_LIMITED, retry_after=SECOND), 429),
        (KongflowError("Too many at once.", reason=Reason.QUOTA_EXCEEDED, retry_after=SECOND), 429),
        (DatabaseUnavailableError("PostgreSQL is away.", retry_after=SECOND), 503),
        (NoConnectionFreeError("connections"), 503),
        (ServerOverloadedError("memory"), 503),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
async def test_who_asked_too_much_is_told_apart_from_a_server_without_room(error: KongflowError, status: int) -> None:
    async def deployed(*_arguments: object, **_named: object) -> None:
        raise error

    async def why_not() -> str | None:
        return None

    application = hooks_and_health(deployed=deployed, not_ready=why_not)
    async with TestClient(TestServer(application)) as client:
        answer = await client.post(f"/api/v1/endpoints/{UUID(int=1)}/shop/index/{'a' * 10}")
        assert (answer.status, answer.headers["Retry-After"]) == (status, "1")
        assert await answer.json() == {"error": error.message}
