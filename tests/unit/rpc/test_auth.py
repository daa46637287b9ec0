from __future__ import annotations

import pytest

from services.endpoints.domain.errors import UnauthenticatedError
from services.endpoints.rpc.auth import bearer_credential, readmit_caller


@pytest.mark.parametrize("value", ["Bearer key", "bearer key", "BEARER  key ", " Bearer key"])
def test_the_scheme_is_case_insensitive(value: str) -> None:
    assert bearer_credential([("user-agent", "x"), ("authorization", value)]) == "key"


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("authorization", "")],
        [("authorization", "key")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "Basic key")],
        [("authorization", "Bearer a"), ("authorization", "Bearer a")],
        [("authorization-bin", b"Bearer key")],
    ],
)
def test_anything_else_is_no_credential(metadata: list[tuple[str, str | bytes]]) -> None:
    with pytest.raises(UnauthenticatedError):
        bearer_credential(metadata)


async def test_nobody_is_readmitted_who_was_never_recognised() -> None:
    with pytest.raises(UnauthenticatedError):
        await readmit_caller()
