"""The endpoints service's settings: every mistake at once, by name, never with its value."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from ipaddress import ip_network
from typing import Any

import pytest

from services.configuration.settings import SettingsError
from services.configuration.values import Address
from services.endpoints.domain.endpoint import EndpointState
from services.endpoints.settings import EndpointsSettings, load_settings

GOOD: dict[str, Any] = {
    "KONGFLOW_DATABASE_URL": "postgresql://user:hidden@127.0.0.1/kongflow",
    "KONGFLOW_SECRET_KEYS": sha256(b"keys").hexdigest(),
    "KONGFLOW_LOOKUP_PEPPER": sha256(b"pepper").hexdigest(),
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def load(environment: pytest.MonkeyPatch, **variables: str) -> EndpointsSettings:
    for name, value in variables.items():
        environment.setenv(f"KONGFLOW_{name}", value)
    return load_settings()


def test_defaults_are_those_of_the_documentation(environment: pytest.MonkeyPatch) -> None:
    settings = load(environment)

    assert str(settings.grpc_address) == "127.0.0.1:50051"
    assert str(settings.http_address) == "127.0.0.1:8080"
    assert settings.metrics_address is None
    assert settings.egress_allow == ()
    assert settings.index_window.total_seconds() == 900
    assert settings.hook_delay.total_seconds() == 5


def test_addresses_and_networks_are_read_from_text(environment: pytest.MonkeyPatch) -> None:
    settings = load(
        environment,
        GRPC_ADDRESS="192.0.2.1:1",
        ALLOW_PLAINTEXT="true",
        HTTP_ADDRESS="[::1]:2",
        METRICS_ADDRESS="",
        EGRESS_ALLOW="10.0.0.0/8, ::1/128",
    )

    assert settings.grpc_address == Address(host="192.0.2.1", port=1)
    assert settings.http_address.port == 2
    assert settings.metrics_address is None
    assert settings.egress_allow == (ip_network("10.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://secret-part"),
        ("REDIS_URL", "http://secret-part"),
        ("GRPC_ADDRESS", "secret-part"),
        ("HTTP_ADDRESS", "secret-part:70000"),
        ("SECRET_KEYS", "secret-part"),
        ("LOOKUP_PEPPER", "secret-part"),
        ("ADMIN_TOKEN", "secret-part"),
        ("EGRESS_ALLOW", "secret-part"),
        ("CALLERS_POOL_SIZE", "0"),
        ("LEASE_SECONDS", "secret-part"),
        ("LOG_LEVEL", "secret-part"),
    ],
)
def test_mistake_is_named_without_its_value(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load(environment, **{name: value})

    (line,) = str(refused.value).splitlines()
    assert line.startswith(f"KONGFLOW_{name}: ")
    assert "secret-part" not in line


def test_all_mistakes_are_reported_together(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("KONGFLOW_DATABASE_URL")

    with pytest.raises(SettingsError) as refused:
        load(environment, REDIS_URL="nonsense", LEASE_SECONDS="0")

    named = {line.partition(":")[0] for line in str(refused.value).splitlines()}
    assert named == {"KONGFLOW_DATABASE_URL", "KONGFLOW_REDIS_URL", "KONGFLOW_LEASE_SECONDS"}


def test_secrets_are_never_shown(environment: pytest.MonkeyPatch) -> None:
    shown = repr(load(environment, ADMIN_TOKEN="kf_admin_0123456789abcdef", REDIS_URL="redis://:hidden@127.0.0.1/0"))

    assert "hidden" not in shown
    assert "0123456789abcdef" not in shown
    assert "11" * 32 not in shown


def test_probes_come_when_the_settings_say(environment: pytest.MonkeyPatch) -> None:
    policy = load(
        environment,
        ENDPOINT_FAILING_AFTER="2",
        ENDPOINT_PROBE_AFTER_SECONDS="4",
        ENDPOINT_PROBE_AT_MOST_SECONDS="10",
        ENDPOINT_SUSPENDED_PROBE_SECONDS="100",
    ).health_policy
    delays = [policy.probe_delay(EndpointState.FAILING, failures, jitter=1.0) for failures in (2, 3, 4)]
    assert [delay.total_seconds() for delay in delays] == [4, 8, 10]
    assert policy.probe_delay(EndpointState.SUSPENDED, 9, jitter=0.5) == timedelta(seconds=100)
