"""What deploys the services is right as far as it can be told without an engine or a cluster."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.configuration.keys import KEYS
from services.endpoints.telemetry import metrics
from tests.support.compose import built_compose

ROOT = Path(__file__).parents[2]
KUBERNETES = ROOT / "deploy" / "kubernetes"
MANIFESTS = sorted(path for path in (KUBERNETES / "base").glob("*.yaml") if path.name != "kustomization.yaml")
SECRET_KEYS = {"database-url", "redis-url", "admin-token", "secret-keys", "lookup-pepper", "worker-token"}


def resources() -> list[dict[str, Any]]:
    return [resource for path in MANIFESTS for resource in yaml.safe_load_all(path.read_text())]


def of_kind(kind: str) -> dict[str, dict[str, Any]]:
    return {resource["metadata"]["name"]: resource for resource in resources() if resource["kind"] == kind}


def pods() -> dict[str, dict[str, Any]]:
    return {
        name: resource["spec"]["template"]["spec"]
        for kind in ("Deployment", "Job")
        for name, resource in of_kind(kind).items()
    }


def test_dockerfile_has_no_finding() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    checked = subprocess.run([hadolint, ROOT / "deploy" / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifest_is_what_kubernetes_takes(path: Path) -> None:
    for resource in yaml.safe_load_all(path.read_text()):
        kubernetes_validate.validate(resource, "1.37", strict=True)


def test_base_names_every_manifest() -> None:
    base = yaml.safe_load((KUBERNETES / "base" / "kustomization.yaml").read_text())
    assert sorted(base["resources"]) == [path.name for path in MANIFESTS]


@pytest.mark.skipif(
    shutil.which("kubectl") is None and os.environ.get("CI") != "true",
    reason="kubectl, which has kustomize in it, is not installed",
)
def test_overlay_builds_into_valid_manifests() -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", KUBERNETES / "overlays" / "production"], capture_output=True, text=True, check=True
    ).stdout
    made = list(yaml.safe_load_all(built))
    for resource in made:
        kubernetes_validate.validate(resource, "1.37", strict=True)
    images = {
        container["image"]
        for resource in made
        if resource["kind"] in ("Deployment", "Job")
        for container in resource["spec"]["template"]["spec"]["containers"]
    }
    assert images == {"registry.example.com/kongflow:0.1.0"}
    assert {resource["spec"]["replicas"] for resource in made if resource["kind"] == "Deployment"} == {3}


@pytest.mark.parametrize("name", ["migrate", "endpoints", "worker"])
def test_pods_run_as_nobody_special(name: str) -> None:
    pod = pods()[name]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not context["allowPrivilegeEscalation"]


@pytest.mark.parametrize("name", ["endpoints", "worker"])
def test_services_are_probed_budgeted_and_scaled(name: str) -> None:
    (container,) = pods()[name]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert of_kind("PodDisruptionBudget")[name]["spec"]["maxUnavailable"] == 1
    assert of_kind("HorizontalPodAutoscaler")[name]["spec"]["minReplicas"] == 2
    assert name in of_kind("NetworkPolicy")


def test_workers_scale_by_a_metric_that_exists() -> None:
    (metric,) = of_kind("HorizontalPodAutoscaler")["worker"]["spec"]["metrics"]
    assert f'"{metric["external"]["metric"]["name"]}"' in Path(str(metrics.__file__)).read_text()


def test_drain_fits_in_the_grace_of_a_stop() -> None:
    given = yaml.safe_load(of_kind("ConfigMap")["kongflow"]["data"]["kongflow.yaml"])
    drain = int(re.sub(r"\D", "", given["drain_timeout"]))
    assert all(pods()[name]["terminationGracePeriodSeconds"] >= drain + 10 for name in ("endpoints", "worker"))


def test_configuration_holds_settings_that_exist() -> None:
    given = yaml.safe_load(of_kind("ConfigMap")["kongflow"]["data"]["kongflow.yaml"])
    worker = given.pop("worker")
    assert {*given, *(f"worker.{key}" for key in worker)} <= KEYS


def test_secrets_come_from_the_one_secret_that_the_guide_makes() -> None:
    asked = {
        variable["valueFrom"]["secretKeyRef"]["key"]
        for pod in pods().values()
        for container in pod["containers"]
        for variable in container["env"]
        if "valueFrom" in variable
    }
    assert asked == SECRET_KEYS
    made = set(re.findall(r"--from-literal=([\w-]+)=", (ROOT / "docs" / "deploy.md").read_text()))
    assert made == SECRET_KEYS


def test_files_that_compose_mounts_are_in_the_repository() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    mounted = {
        volume.partition(":")[0]
        for service in services.values()
        for volume in service.get("volumes", [])
        if volume.startswith("./")
    }
    assert mounted == {"./deploy/prometheus", "./deploy/grafana/provisioning", "./deploy/grafana/dashboards"}


def test_redis_keeps_a_log_and_never_forgets() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    command = services["redis"]["command"][-1]
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert {name: services[name]["deploy"]["replicas"] for name in ("endpoints", "worker")} == {
        "endpoints": 2,
        "worker": 2,
    }


@pytest.mark.timeout(900)
@pytest.mark.acceptance
@pytest.mark.skipif(
    shutil.which("go") is None and os.environ.get("CI") != "true",
    reason="Go, which builds the pinned Docker Compose, is not installed",
)
def test_compose_file_is_what_docker_compose_takes(tmp_path: Path) -> None:
    compose = built_compose()
    named = re.findall(r"^(\w+)=$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **dict.fromkeys(named, "value")}
    told = subprocess.run(
        [compose, "--file", ROOT / "docker-compose.yml", "config", "--format", "json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    services = yaml.safe_load(told.stdout)["services"]
    assert services.keys() == {"postgres", "redis", "migrate", "endpoints", "worker", "prometheus", "grafana"}

    environment.pop("KONGFLOW_SECRET_KEYS")
    refused = subprocess.run(
        [compose, "--file", ROOT / "docker-compose.yml", "config", "--quiet"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode != 0
    assert "KONGFLOW_SECRET_KEYS is missing a value" in refused.stderr
