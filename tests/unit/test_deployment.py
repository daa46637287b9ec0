from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.endpoints.settings import EndpointsSettings
from services.worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
OURS = ("migrate", "endpoints", "worker")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return loaded


def pins(lock: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / f"{lock}.txt").read_text().splitlines()
    return {
        name: version for name, _, version in (line.split(" ")[0].partition("==") for line in lines if "==" in line)
    }


def asked_for(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(name for extra in extras for name in project["optional-dependencies"][extra])]
    return {re.split(r"[^A-Za-z0-9._-]", name)[0].lower() for name in wanted}


@pytest.mark.parametrize(
    ("service", "known"),
    [
        ("migrate", {"KONGFLOW_DATABASE_URL"}),
        ("endpoints", {f"KONGFLOW_{name.upper()}" for name in EndpointsSettings.model_fields}),
        ("worker", {f"KONGFLOW_{name.upper()}" for name in WorkerSettings.model_fields}),
    ],
)
def test_containers_are_given_variables_that_exist(compose: dict[str, Any], service: str, known: set[str]) -> None:
    assert compose["services"][service]["environment"].keys() <= known


@pytest.mark.parametrize(("service", "settings"), [("endpoints", EndpointsSettings), ("worker", WorkerSettings)])
def test_containers_are_given_every_variable_without_a_default(
    compose: dict[str, Any], service: str, settings: type[EndpointsSettings | WorkerSettings]
) -> None:
    required = {f"KONGFLOW_{name.upper()}" for name, field in settings.model_fields.items() if field.is_required()}
    assert required
    assert required <= compose["services"][service]["environment"].keys()


def test_example_names_every_variable_that_compose_requires() -> None:
    required = set(re.findall(r"\$\{(\w+):\?", (ROOT / "docker-compose.yml").read_text()))
    named = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert required
    assert required <= named


def test_example_holds_no_value() -> None:
    assert not re.findall(r"^\w+=.+", (ROOT / ".env.example").read_text(), re.MULTILINE)


def test_secrets_are_never_written_in_compose(compose: dict[str, Any]) -> None:
    written = {
        name: value
        for service in compose["services"].values()
        for name, value in service.get("environment", {}).items()
        if re.search(r"PASSWORD|TOKEN|SECRET|PEPPER|AUTH", name)
    }
    assert len(written) >= 6
    assert all(re.fullmatch(r"\$\{\w+:(\?see \.env\.example|-)\}", value) for value in written.values())


def test_our_containers_share_one_image_and_run_as_nobody_special(compose: dict[str, Any]) -> None:
    services = [compose["services"][name] for name in OURS]
    assert len({service["image"] for service in services}) == 1
    assert all(service["read_only"] and service["cap_drop"] == ["ALL"] for service in services)
    assert re.search(r"^USER 10001:10001$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)


def test_everything_that_stays_up_has_a_health_check(compose: dict[str, Any]) -> None:
    assert {name for name, service in compose["services"].items() if "healthcheck" not in service} == {"migrate"}


def test_what_the_image_copies_is_sent_to_the_builder() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "deploy" / "Dockerfile").read_text(), re.MULTILINE)
    sent = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    assert {path.split("/")[0] for paths in copied for path in paths.split()} == sent


@pytest.mark.parametrize(("lock", "extras"), [("service", ()), ("run", ("embedded",)), ("dev", ("embedded", "dev"))])
def test_lock_pins_what_the_project_asks_for(lock: str, extras: tuple[str, ...]) -> None:
    assert asked_for(*extras) <= pins(lock).keys()


@pytest.mark.parametrize(("smaller", "larger"), [("service", "run"), ("run", "dev"), ("run", "bench")])
def test_locks_agree(smaller: str, larger: str) -> None:
    assert pins(smaller).items() <= pins(larger).items()


@pytest.mark.parametrize("lock", ["build", "service", "run", "dev", "bench"])
def test_locks_name_no_address(lock: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.txt").read_text()
    assert pins(lock)
    assert not re.search(r"://|^-", text, re.MULTILINE)


@pytest.mark.parametrize("page", ["README.md", "docs/deploy.md", ".env.example"])
def test_server_is_waited_for_before_a_command_is_run_in_its_container(page: str) -> None:
    start, command, *_ = re.findall(r"docker compose (?:up|exec) .+", (ROOT / page).read_text())
    assert command.startswith("docker compose exec ")
    assert "--wait" in start.split()
