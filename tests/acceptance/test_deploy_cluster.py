"""The commands of docs/deploy.md for Kubernetes: real kubectl, against an API that keeps what it is told."""

from __future__ import annotations

import asyncio
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.cluster import FakeCluster
from tests.support.command import ROOT
from tests.support.readme import blocks_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.skipif(
        shutil.which("kubectl") is None and os.environ.get("CI") != "true", reason="kubectl is not installed"
    ),
]

BLOCKS: Final = [block for block in blocks_of(ROOT / "docs" / "deploy.md") if "cluster" in block.words]
OVERLAY: Final = "deploy/kubernetes/overlays/production/kustomization.yaml"
SERVICES: Final = ("endpoints", "worker")
WITHIN_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Operator:
    """Somebody with kubectl, a checkout and a cluster."""

    folder: Path
    cluster: FakeCluster

    async def run(self, words: str) -> str:
        """Run the one block that holds `words`, which must succeed, and return what it said."""
        [block] = [block for block in BLOCKS if words in block.commands]
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-e", "-c", block.commands),
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "KUBECONFIG": str(self.folder / "kubeconfig")},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), WITHIN_SECONDS)
        assert process.returncode == 0, output.decode()
        return output.decode()

    async def install(self) -> None:
        await self.run("create namespace")

    async def upgrade(self, version: str) -> str:
        overlay = self.folder / OVERLAY
        text = overlay.read_text()
        assert "newTag: 0.1.0" in text
        overlay.write_text(text.replace("newTag: 0.1.0", f"newTag: {version}"))
        return await self.run("delete job migrate")

    def versions(self) -> dict[str, str]:
        """Return which version each service's pods are of."""
        deployments = self.cluster.of("deployments")
        images = {name: deployments[name]["spec"]["template"]["spec"]["containers"][0]["image"] for name in deployments}
        return {name: image.rpartition(":")[2] for name, image in images.items()}


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    async with FakeCluster() as cluster:
        cluster.write_configuration(tmp_path / "kubeconfig")
        yield Operator(tmp_path, cluster)


async def test_installation_makes_the_secret_and_everything_of_the_overlay(operator: Operator) -> None:
    await operator.install()
    assert operator.versions() == dict.fromkeys(SERVICES, "0.1.0")
    assert {"database-url", "worker-token"} <= operator.cluster.of("secrets")["kongflow"]["data"].keys()
    assert operator.cluster.of("jobs").keys() == {"migrate"}
    assert operator.cluster.of("horizontalpodautoscalers").keys() == set(SERVICES)


async def test_upgrade_brings_the_schema_up_again_and_rolls_both_services_out(operator: Operator) -> None:
    await operator.install()
    job = operator.cluster.of("jobs")["migrate"]
    said = await operator.upgrade("0.2.0")
    assert operator.versions() == dict.fromkeys(SERVICES, "0.2.0")
    assert operator.cluster.of("jobs")["migrate"]["metadata"]["uid"] != job["metadata"]["uid"]
    assert all(f'deployment "{name}" successfully rolled out' in said for name in SERVICES)


async def test_canary_is_held_and_let_go(operator: Operator) -> None:
    await operator.install()
    assert operator.cluster.of("deployments")["endpoints"]["spec"]["minReadySeconds"] == 60
    await operator.run("rollout pause")
    assert operator.cluster.of("deployments")["endpoints"]["spec"]["paused"]
    await operator.run("rollout resume")
    assert not operator.cluster.of("deployments")["endpoints"]["spec"].get("paused")


async def test_rollback_puts_the_old_image_back_and_forth_again(operator: Operator) -> None:
    await operator.install()
    await operator.upgrade("0.2.0")
    await operator.run("rollout undo")
    assert operator.versions() == dict.fromkeys(SERVICES, "0.1.0")
    await operator.run("rollout undo")
    assert operator.versions() == dict.fromkeys(SERVICES, "0.2.0")


def test_every_block_is_run_by_one_of_these_tests() -> None:
    run = ("create namespace", "delete job migrate", "rollout pause", "rollout resume", "rollout undo")
    assert [sum(words in block.commands for block in BLOCKS) for words in run] == [1] * len(BLOCKS)
