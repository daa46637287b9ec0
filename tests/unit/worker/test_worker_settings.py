"""Settings come from the environment, once, with every mistake at once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from services.configuration.settings import SettingsError
from services.worker.settings import load_settings


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "GRPC_TARGET", "GRPC_ADDRESS", "WORKER_QUEUES", "WORKER_HEALTH_ADDRESS", "LOG_LEVEL"):
        monkeypatch.delenv(f"KONGFLOW_{name}", raising=False)
    monkeypatch.setenv("KONGFLOW_WORKER_TOKEN", "kfw_secret")


def test_defaults_serve_all_queues_on_this_machine() -> None:
    settings = load_settings()
    assert dict(settings.worker_queues) == {"default": 10, "execution": 100, "events": 10, "maintenance": 1}
    assert settings.grpc_target == "dns:///127.0.0.1:50051"
    assert settings.worker_health_address is None
    assert (settings.drain_timeout, settings.call_timeout) == (timedelta(seconds=30), timedelta(seconds=45))


def test_queues_are_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONGFLOW_WORKER_QUEUES", "execution:7, maintenance : 2")
    assert dict(load_settings().worker_queues) == {"execution": 7, "maintenance": 2}


@pytest.mark.parametrize(
    "text", ["", "default", "default:", "default:x", "default:0", "default:10001", "default:-1", "other:1"]
)
def test_impossible_queues_are_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("KONGFLOW_WORKER_QUEUES", text)
    with pytest.raises(SettingsError, match="KONGFLOW_WORKER_QUEUES"):
        load_settings()


def test_queue_named_twice_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONGFLOW_WORKER_QUEUES", "default:1,default:2")
    with pytest.raises(SettingsError, match="default is named twice"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("endpoints:50051", "dns:///endpoints:50051"),
        ("dns:///endpoints:50051", "dns:///endpoints:50051"),
        ("unix:/run/kongflow.sock", "unix:/run/kongflow.sock"),
        ("0.0.0.0:1", "dns:///127.0.0.1:1"),
        (":1", "dns:///127.0.0.1:1"),
        ("[::]:1", "dns:///[::1]:1"),
    ],
)
def test_target_is_resolved_by_name(monkeypatch: pytest.MonkeyPatch, text: str, target: str) -> None:
    monkeypatch.setenv("KONGFLOW_GRPC_ADDRESS", text)
    assert load_settings().grpc_target == target


def test_target_wins_over_the_servers_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONGFLOW_GRPC_ADDRESS", "0.0.0.0:1")
    monkeypatch.setenv("KONGFLOW_GRPC_TARGET", "endpoints:2")
    assert load_settings().grpc_target == "dns:///endpoints:2"


def test_what_is_given_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONGFLOW_GRPC_TARGET", "endpoints:1")
    monkeypatch.setenv("KONGFLOW_REDIS_URL", "redis://environment")
    settings = load_settings(grpc_target="given:2", redis_url="redis://given")
    assert (settings.grpc_target, settings.redis_url) == ("dns:///given:2", "redis://given")


def test_health_address_is_host_and_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONGFLOW_WORKER_HEALTH_ADDRESS", "[::1]:9091")
    address = load_settings().worker_health_address
    assert address is not None
    assert (address.host, address.port) == ("::1", 9091)


def test_health_address_without_a_host_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONGFLOW_WORKER_HEALTH_ADDRESS", ":9091")
    with pytest.raises(SettingsError, match="KONGFLOW_WORKER_HEALTH_ADDRESS: must be host:port"):
        load_settings()


def test_empty_health_address_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONGFLOW_WORKER_HEALTH_ADDRESS", "")
    assert load_settings().worker_health_address is None


def test_all_mistakes_are_named_together_and_no_value_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "KONGFLOW_REDIS_URL": "http://value-a",
        "KONGFLOW_GRPC_TARGET": "value-b",
        "KONGFLOW_WORKER_TOKEN": "value c",
        "KONGFLOW_WORKER_QUEUES": "value-d",
        "KONGFLOW_WORKER_HEALTH_ADDRESS": "value-e:99999",
        "KONGFLOW_WORKER_DRAIN_TIMEOUT_SECONDS": "-1",
        "KONGFLOW_WORKER_CALL_TIMEOUT_SECONDS": "value-f",
        "KONGFLOW_LOG_LEVEL": "value-g",
    }
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        load_settings()
    lines = str(refused.value).splitlines()
    assert {line.split(":")[0] for line in lines} == set(wrong)
    assert "value-" not in str(refused.value)
    assert "value c" not in str(refused.value)


def test_absent_token_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KONGFLOW_WORKER_TOKEN")
    with pytest.raises(SettingsError, match="KONGFLOW_WORKER_TOKEN"):
        load_settings()


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONGFLOW_REDIS_URL", "redis://:hunter2@127.0.0.1:6379/0")
    settings = load_settings()
    assert settings.worker_token.get_secret_value() == "kfw_secret"
    assert "kfw_secret" not in repr(settings)
    assert "hunter2" not in repr(settings)


def test_settings_are_frozen() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.log_level = "debug"  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.worker_queues["default"] = 1  # type: ignore[index]
