"""The file beside the environment, and the commands that check and show both."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from cli.application import application
from services.configuration.durations import to_seconds
from services.configuration.file import settings_of
from services.configuration.keys import KEYS
from services.configuration.settings import SettingsError
from services.endpoints.settings import EndpointsSettings
from services.endpoints.settings import load_settings as load_endpoints
from services.worker.settings import WorkerSettings
from services.worker.settings import load_settings as load_worker
from tools.configuration_reference import render_configuration_reference

if TYPE_CHECKING:
    from pathlib import Path

REQUIRED = f"""
database_url: postgresql://user:hidden@127.0.0.1/kongflow
secret_keys: '{"11" * 32}'
lookup_pepper: '{"22" * 32}'
worker:
  token: kfw_hidden
"""
CLASSES = (EndpointsSettings, WorkerSettings)


class ConfigurationFile:
    """The file of KONGFLOW_CONFIG, in an environment with no other setting."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.write("")

    def write(self, text: str) -> None:
        self.path.write_text(REQUIRED + text, encoding="utf-8")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ConfigurationFile:
    for variable in [name for name in os.environ if name.startswith("KONGFLOW_")]:
        monkeypatch.delenv(variable)
    path = tmp_path / "kongflow.yaml"
    monkeypatch.setenv("KONGFLOW_CONFIG", str(path))
    return ConfigurationFile(path)


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(application, ["config", *arguments])
    return result.exit_code, result.stdout


def test_one_file_serves_both_services(file: ConfigurationFile) -> None:
    file.write(
        "redis_url: redis://there\napi_client:\n  timeout: 12 s\n  max_retries: 2\n  retry_backoff: 0.5\n"
        "  user_agent: Ours/2\nqueue:\n  max_workers: 4\n  poll_interval: 250 ms\n  max_attempts: 7\n"
        "retry:\n  base: 2\n  factor: 3\n  cap: 1 min\nretention:\n  completed: 48 h\n"
    )

    endpoints, worker = load_endpoints(), load_worker()

    assert endpoints.redis_url == worker.redis_url == "redis://there"
    assert (endpoints.endpoint_timeout_seconds, endpoints.api_client_max_retries) == (12, 2)
    assert endpoints.retry_backoff.total_seconds() == 0.5
    assert endpoints.api_client_user_agent == "Ours/2"
    assert endpoints.queue_max_attempts == 7
    assert endpoints.ledger.safety_poll.total_seconds() == 0.25
    assert [endpoints.ledger.backoff.delay(attempt=n, jitter=1.0).total_seconds() for n in (1, 2, 3, 4, 5)] == [
        2,
        6,
        18,
        54,
        60,
    ]
    assert endpoints.retention.completed.days == 2
    assert dict(worker.worker_queues) == {"default": 4, "execution": 100, "events": 4, "maintenance": 1}


def test_defaults_are_the_documented_constants(file: ConfigurationFile) -> None:
    endpoints, worker = load_endpoints(), load_worker()

    assert (endpoints.endpoint_timeout_seconds, endpoints.api_client_max_retries) == (30, 3)
    assert (endpoints.api_client_retry_backoff_seconds, endpoints.api_client_user_agent) == (1, "Kongflow/1.0")
    assert (worker.queue_max_workers, endpoints.queue_poll_interval_seconds, endpoints.queue_max_attempts) == (10, 1, 5)
    assert endpoints.ledger == type(endpoints.ledger)()
    assert endpoints.retention == type(endpoints.retention)()


def test_environment_wins_over_the_file(file: ConfigurationFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write("api_client:\n  timeout: 12\nlog_level: debug\nworker_ignored: 1\n".replace("worker_ignored: 1\n", ""))
    monkeypatch.setenv("KONGFLOW_ENDPOINT_TIMEOUT_SECONDS", "13")
    monkeypatch.setenv("KONGFLOW_LOG_LEVEL", "error")

    settings = load_endpoints()

    assert (settings.endpoint_timeout_seconds, settings.log_level) == (13, "error")


def test_a_variable_may_be_named_like_its_key(file: ConfigurationFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KONGFLOW_API_CLIENT_TIMEOUT", "14 s")
    monkeypatch.setenv("KONGFLOW_WORKER_CALL_TIMEOUT", "1 min")
    assert load_endpoints().endpoint_timeout_seconds == 14
    assert load_worker().worker_call_timeout_seconds == 60

    monkeypatch.setenv("KONGFLOW_ENDPOINT_TIMEOUT_SECONDS", "15")
    assert load_endpoints().endpoint_timeout_seconds == 15


def test_structured_values_are_written_as_yaml(file: ConfigurationFile) -> None:
    file.path.write_text(
        REQUIRED + "  queues:\n    execution: 7\n    events: 2\negress_allow: [10.0.0.0/8]\ngrpc_address: '[::1]:1'\n",
        encoding="utf-8",
    )

    assert dict(load_worker().worker_queues) == {"execution": 7, "events": 2}
    assert [str(network) for network in load_endpoints().egress_allow] == ["10.0.0.0/8"]
    assert str(load_endpoints().grpc_address) == "[::1]:1"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("api_client:\n  timout: 3\n", "api_client.timout: is no setting; did you mean api_client.timeout?"),
        ("api_clent:\n  timeout: 3\n", "api_clent: is no setting; did you mean api_client?"),
        ("redis_ulr: x\n", "redis_ulr: is no setting; did you mean redis_url?"),
        ("queue:\n  user_agent: x\n", "queue.user_agent: is no setting; did you mean api_client.user_agent?"),
        ("retry: 3\n", "retry: is no setting; it is a group, so it must be a mapping"),
        ("zzz: 1\n", "zzz: is no setting"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one(file: ConfigurationFile, text: str, line: str) -> None:
    file.write(text)

    for load in (load_endpoints, load_worker):
        with pytest.raises(Exception, match="is no setting") as refused:
            load()
        assert str(refused.value) == line


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"a: [", "KONGFLOW_CONFIG: is not YAML (line 1)"),
        (b"- a\n", "KONGFLOW_CONFIG: must be a mapping of groups and settings"),
        (b"\xff\xfe\xff", "KONGFLOW_CONFIG: is not UTF-8"),
        (None, "KONGFLOW_CONFIG: cannot be read: No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_mistake(file: ConfigurationFile, content: bytes | None, line: str) -> None:
    file.path.unlink() if content is None else file.path.write_bytes(content)

    with pytest.raises(SettingsError) as refused:
        load_endpoints()

    assert str(refused.value) == line


def test_a_file_that_cannot_be_read_hides_no_mistake_of_the_environment(
    file: ConfigurationFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.path.unlink()
    monkeypatch.setenv("KONGFLOW_LEASE_SECONDS", "0")
    monkeypatch.setenv("KONGFLOW_LOG_LEVEL", "loud")

    with pytest.raises(SettingsError) as refused:
        load_endpoints()

    names = [line.partition(":")[0] for line in str(refused.value).splitlines()]
    assert names == ["KONGFLOW_CONFIG", "KONGFLOW_LEASE_SECONDS", "KONGFLOW_LOG_LEVEL"]


@pytest.mark.parametrize(
    ("service", "missing"), [("endpoints", "KONGFLOW_DATABASE_URL"), ("worker", "KONGFLOW_WORKER_TOKEN")]
)
def test_one_service_is_checked_and_shown_alone(
    file: ConfigurationFile, monkeypatch: pytest.MonkeyPatch, service: str, missing: str
) -> None:
    monkeypatch.delenv("KONGFLOW_CONFIG")

    code, output = run("check", "--service", service, "--json")
    shown = json.loads(run("show", "--service", service, "--json")[1])

    mistakes = json.loads(output)["mistakes"]
    assert code == 1
    assert set(mistakes) == {service, "environment"}
    assert any(line.startswith(missing) for line in mistakes[service])
    assert set(shown["mistakes"]) == {service}


def test_check_of_one_service_says_when_all_is_right(file: ConfigurationFile) -> None:
    assert run("check", "--service", "worker") == (0, "The settings of the worker service are right.\n")


def test_an_empty_file_says_nothing(file: ConfigurationFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.path.write_text("api_client:\n", encoding="utf-8")
    monkeypatch.setenv("KONGFLOW_WORKER_TOKEN", "kfw_hidden")
    assert load_worker().worker_token.get_secret_value() == "kfw_hidden"


def test_check_reports_every_mistake_of_both_services_by_name_and_never_by_value(
    file: ConfigurationFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.path.write_text(
        f'secret_keys: secret-part\nlookup_pepper: "{"22" * 32}"\napi_client:\n  timeout: secret-part\n  tries: 3\n'
        "queue:\n  max_workers: 0\nredis_url: secret-part\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("KONGFLOW_WORKER_CALL_TIMEOUT_SECONDS", "secret-part")
    monkeypatch.setenv("KONGFLOW_REDIS_ULR", "secret-part")

    code, output = run("check", "--json")

    found = {
        service: {line.partition(":")[0] for line in lines} for service, lines in json.loads(output)["mistakes"].items()
    }
    unknown = "api_client.tries"
    assert code == 1
    assert "secret-part" not in output
    assert found == {
        "endpoints": {"secret_keys", "api_client.timeout", unknown, "redis_url", "KONGFLOW_DATABASE_URL"},
        "worker": {
            "queue.max_workers",
            unknown,
            "redis_url",
            "KONGFLOW_WORKER_TOKEN",
            "KONGFLOW_WORKER_CALL_TIMEOUT_SECONDS",
        },
        "environment": {"KONGFLOW_REDIS_ULR"},
    }


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("KONGFLOW_DATABSE_URL", "KONGFLOW_DATABSE_URL: is no setting; did you mean KONGFLOW_DATABASE_URL?"),
        ("KONGFLOW_ZZZ", "KONGFLOW_ZZZ: is no setting"),
        ("KONGFLOW_TOKEN", None),
        ("KONGFLOW_SERVER", None),
        ("KONGFLOW_ENDPOINTS_SERVICE_HOST", None),
        ("KONGFLOW_ENDPOINTS_PORT_50051_TCP_ADDR", None),
        ("SOMEBODY_ELSES", None),
    ],
)
def test_check_names_variables_that_are_no_setting(
    file: ConfigurationFile, monkeypatch: pytest.MonkeyPatch, name: str, line: str | None
) -> None:
    monkeypatch.setenv(name, "secret-part")

    code, output = run("check", "--json")

    answer = json.loads(output)
    assert answer["mistakes"] == {"endpoints": [], "worker": [], "environment": [line] if line else []}
    assert (code, answer["ok"]) == ((1, False) if line else (0, True))


def test_check_says_when_all_is_right(file: ConfigurationFile) -> None:
    assert run("check") == (0, "The settings of both services are right.\n")


def test_check_names_each_mistake_on_a_line_with_its_service(file: ConfigurationFile) -> None:
    file.write("redis_ulr: x\n")

    code, output = run("check")

    line = "redis_ulr: is no setting; did you mean redis_url?"
    assert (code, output.splitlines()) == (1, [f"endpoints: {line}", f"worker: {line}"])


def test_show_masks_secrets_and_says_where_values_come_from(
    file: ConfigurationFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write("redis_url: rediss://:hidden@there/0\n")
    monkeypatch.setenv("KONGFLOW_LEASE_SECONDS", "20")

    code, output = run("show", "--json")

    shown: dict[str, Any] = json.loads(output)["settings"]
    assert code == 0
    assert "hidden" not in output
    assert "11" * 32 not in output
    assert shown["endpoints"]["ledger.lease"] == {"value": "20", "from": "KONGFLOW_LEASE_SECONDS"}
    assert shown["endpoints"]["redis_url"] == {"value": "rediss://:********@there/0", "from": "redis_url"}
    assert shown["endpoints"]["database_url"]["value"] == "postgresql://user:********@127.0.0.1/kongflow"
    assert shown["worker"]["worker.token"] == {"value": "********", "from": "worker.token"}
    assert shown["worker"]["worker.call_timeout"] == {"value": "45", "from": "default"}
    assert "hidden" not in run("show")[1]


def test_show_still_shows_the_service_without_mistakes(file: ConfigurationFile) -> None:
    file.write("ledger:\n  lease: 0\n")

    code, output = run("show", "--json")

    assert code == 1
    assert json.loads(output)["settings"].keys() == {"worker"}


@pytest.mark.parametrize("cls", CLASSES)
def test_no_two_settings_share_a_name(cls: type[EndpointsSettings | WorkerSettings]) -> None:
    settings = settings_of(cls)
    keys = [setting.key for setting in settings.values()]
    variables = [variable for setting in settings.values() for variable in setting.variables]

    assert len(keys) == len(set(keys))
    assert len(variables) == len(set(variables))
    assert set(keys) <= KEYS


@pytest.mark.parametrize("cls", CLASSES)
def test_every_setting_is_documented_by_name(cls: type[EndpointsSettings | WorkerSettings]) -> None:
    page = render_configuration_reference()

    for setting in settings_of(cls).values():
        assert f"| `{setting.key}` | `{setting.variables[0]}` | " in page


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 30.0),
        ("2.5", 2.5),
        ("30s", 30.0),
        ("30 s", 30.0),
        ("1.5 min", 90.0),
        ("500ms", 0.5),
        ("24 h", 86_400.0),
        ("7 d", 604_800.0),
        (5, 5),
    ],
)
def test_durations_have_units(text: object, seconds: object) -> None:
    assert to_seconds(text) == seconds


@pytest.mark.parametrize("text", ["7 w", "", "s", "-1 s", "1e3", "nan", "1 minute", "٣ s"])
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number of seconds, or a text such as"):
        to_seconds(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("api_client:\n  timeout: true\n", "api_client.timeout: must be a number"),
        ("database:\n  relay_pool_size: yes\n", "database.relay_pool_size: must be a number"),
        ("grpc_address: 50051\n", "grpc_address: must be host:port"),
        ("retry:\n  base: 10 s\n  cap: 5 s\n", "retry.cap: must be no less than retry.base"),
        (
            "endpoint_health:\n  failing_after: 30\n",
            "KONGFLOW_ENDPOINT_SUSPENDED_AFTER: must be more than endpoint_health.failing_after",
        ),
        (
            "endpoint_health:\n  probe_after: 1 h\n",
            "KONGFLOW_ENDPOINT_PROBE_AT_MOST_SECONDS: must be no less than endpoint_health.probe_after",
        ),
        ("log_level: info\nlog_level: debug\n", "KONGFLOW_CONFIG: has log_level twice (line 8)"),
        ("queue:\n  max_attempts: 1\n  max_attempts: 2\n", "KONGFLOW_CONFIG: has max_attempts twice (line 9)"),
    ],
)
def test_what_cannot_be_meant_is_a_mistake(file: ConfigurationFile, text: str, line: str) -> None:
    file.write(text)

    with pytest.raises(SettingsError) as refused:
        load_endpoints()

    assert str(refused.value) == line


@pytest.mark.parametrize(("lease", "renewed"), [(10, 3.0), (2, 0.6), (600, 3.0)])
def test_leases_are_renewed_well_before_they_run_out(
    file: ConfigurationFile, monkeypatch: pytest.MonkeyPatch, lease: int, renewed: float
) -> None:
    monkeypatch.setenv("KONGFLOW_LEASE_SECONDS", str(lease))
    assert load_endpoints().ledger.renew_every.total_seconds() == pytest.approx(renewed)
