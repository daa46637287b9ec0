"""Signatures of calls, against the specification's own example and a second implementation of it."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.endpoints.delivery.signatures import signature_headers
from services.endpoints.domain.identifiers import new_signing_secret

SENT_AT = datetime(2026, 5, 4, 3, 2, 1, 999_999, tzinfo=UTC)
TIMESTAMP = "1777863721"
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()


def by_hand(text: str, secret: str) -> str:
    key = base64.b64decode(secret[len("whsec_") :])
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + text.encode()).digest()
    return base64.b64encode(hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).digest()).decode()


def test_example_of_the_specification_is_signed_as_it_says() -> None:
    assert signature_headers(
        call_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        sent_at=datetime.fromtimestamp(1614265330, UTC),
        body=b'{"test": 2432232314}',
        secrets=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
    ) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("body", ["", "{}", '{"a": "é"}', "a.b.c", "\n", "x" * 100_000])
def test_signature_covers_the_id_the_second_and_the_exact_body(body: str) -> None:
    headers = signature_headers(call_id="call-1", sent_at=SENT_AT, body=body.encode(), secrets=[SECRET])
    assert headers["webhook-timestamp"] == TIMESTAMP
    assert headers["webhook-signature"] == f"v1,{by_hand(f'call-1.{TIMESTAMP}.{body}', SECRET)}"


def test_each_secret_signs_for_itself_newest_first() -> None:
    headers = signature_headers(call_id="call-1", sent_at=SENT_AT, body=b"{}", secrets=[SECRET, OTHER_SECRET])
    signed = f"call-1.{TIMESTAMP}.{{}}"
    assert headers["webhook-signature"].split(" ") == [
        f"v1,{by_hand(signed, SECRET)}",
        f"v1,{by_hand(signed, OTHER_SECRET)}",
    ]


def test_call_of_an_environment_without_a_secret_is_not_signed() -> None:
    assert signature_headers(call_id="call-1", sent_at=SENT_AT, body=b"{}", secrets=[]) == {}


@given(key=st.binary(min_size=24, max_size=64), body=st.binary(max_size=200))
def test_any_key_that_the_specification_allows_signs_any_body(key: bytes, body: bytes) -> None:
    headers = signature_headers(
        call_id="c", sent_at=SENT_AT, body=body, secrets=[f"whsec_{base64.b64encode(key).decode()}"]
    )
    signature = hmac.new(key, f"c.{TIMESTAMP}.".encode() + body, "sha256").digest()
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(signature).decode()}"


@pytest.mark.parametrize("secret", ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_not base64", "whsec_abc"])
def test_what_is_no_secret_is_refused_without_being_quoted(secret: str) -> None:
    with pytest.raises(ValueError, match=r"secret|base64|padding|character") as caught:
        signature_headers(call_id="c", sent_at=SENT_AT, body=b"", secrets=[secret])
    assert not secret or secret not in str(caught.value)


def test_new_secret_is_the_base64_of_32_random_bytes_and_never_the_same() -> None:
    assert new_signing_secret(random_bytes=lambda count: bytes(range(count))) == SECRET
    assert new_signing_secret() != new_signing_secret()
