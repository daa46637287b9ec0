"""Real grpcurl against a real stack: by reflection, with the protoset's comments, and with errors one can read."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from cli.demo_apps import running_app, sample_app
from cli.stack import grpcurl_lines
from services.embedded.up import Stack, StackSettings, running_stack
from tests.support.grpcurl import installed_grpcurl
from tests.support.servers import reachable_directory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# One stack for all, in one process.
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900), pytest.mark.xdist_group("grpcurl")]

ROOT = Path(__file__).resolve().parents[2]
PROTOSET = ROOT / "gen" / "kongflow.protoset"


class Grpcurl:
    """grpcurl with a stack and a token."""

    def __init__(self, binary: Path, stack: Stack, app_url: str) -> None:
        self.binary = binary
        self.stack = stack
        self.app_url = app_url

    def run(self, *arguments: str, token: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run grpcurl with `arguments`, the address among them as `@`."""
        placed = [self.stack.grpc_target if argument == "@" else argument for argument in arguments]
        authorization = f"authorization: Bearer {token or self.stack.service_token}"
        return subprocess.run(
            [str(self.binary), "-plaintext", "-H", authorization, *placed],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def call(self, method: str, request: dict[str, Any]) -> Any:
        """Call a method that must succeed and return its answer; of a stream, every answer."""
        result = self.run("-d", json.dumps(request), "@", f"kongflow.v1.{method}")
        assert result.returncode == 0, result.stderr
        answers, rest = [], result.stdout.strip()
        while rest:
            answer, end = json.JSONDecoder().raw_decode(rest)
            answers.append(answer)
            rest = rest[end:].strip()
        return answers if "Watch" in method else answers[0]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def grpcurl() -> AsyncIterator[Grpcurl]:
    binary = installed_grpcurl()
    with reachable_directory() as directory:
        async with running_stack(StackSettings(directory=directory)) as stack:
            app = running_app(
                sample_app(), api_key=stack.api_key, platform_url=stack.http_url, directory=directory / "logs"
            )
            async with app as url:
                yield Grpcurl(binary, stack, url)


def test_list_names_every_service_by_reflection(grpcurl: Grpcurl) -> None:
    listed = grpcurl.run("@", "list").stdout.split()
    assert {
        "grpc.health.v1.Health",
        "kongflow.v1.CatalogService",
        "kongflow.v1.EndpointService",
        "kongflow.v1.QueueService",
        "kongflow.v1.TenancyService",
        "kongflow.v1.WorkerService",
    } <= set(listed)


def test_describe_by_reflection_knows_the_messages(grpcurl: Grpcurl) -> None:
    assert "string slug = 2;" in grpcurl.run("@", "describe", "kongflow.v1.CreateEndpointRequest").stdout


def test_describe_from_the_protoset_has_the_comments(grpcurl: Grpcurl) -> None:
    result = grpcurl.run("-protoset", str(PROTOSET), "describe", "kongflow.v1.EndpointService.CreateEndpoint")
    assert "Registers an endpoint: pings it, stores it and asks for its first index." in result.stdout


def test_created_endpoint_can_be_watched_to_its_final_state(grpcurl: Grpcurl) -> None:
    request = {"environment_id": grpcurl.stack.environment_id, "slug": "greenhouse", "url": grpcurl.app_url}
    created = grpcurl.call("EndpointService/CreateEndpoint", request)
    states = grpcurl.call("EndpointService/WatchEndpointIndex", {"index_id": created["index_id"]})
    assert states[-1]["index"]["state"] == "ENDPOINT_INDEX_STATE_PARTIALLY_SUCCEEDED"
    assert states[-1]["index"]["stats"]["jobs"] == 10
    # Nobody is told the final state twice: a watch that resumes from it ends at once.
    resume = {"index_id": created["index_id"], "resume_revision": states[-1]["index"]["revision"]}
    assert grpcurl.call("EndpointService/WatchEndpointIndex", resume) == []


def test_refused_fields_are_readable_all_at_once(grpcurl: Grpcurl) -> None:
    request = {"environment_id": grpcurl.stack.environment_id, "slug": "a b", "url": "ftp://example.com"}
    result = grpcurl.run("-d", json.dumps(request), "@", "kongflow.v1.EndpointService/CreateEndpoint")
    assert result.returncode != 0
    said = re.sub(r"\s+", " ", result.stderr)
    assert "Code: InvalidArgument" in said
    assert '"reason": "INVALID_REQUEST"' in said
    assert '"domain": "kongflow.v1"' in said
    assert '"field": "slug"' in said
    assert '"field": "url"' in said


def test_wrong_token_is_refused_with_a_sentence(grpcurl: Grpcurl) -> None:
    result = grpcurl.run("-protoset", str(PROTOSET), "@", "kongflow.v1.EndpointService/ListEndpoints", token="wrong")
    assert "Code: Unauthenticated" in result.stderr
    assert "This call needs a valid credential" in result.stderr


def test_lines_that_up_prints_work_as_they_are(grpcurl: Grpcurl) -> None:
    lines = grpcurl_lines(grpcurl.stack, grpcurl.stack.settings.directory)
    shown = []
    for line in lines:
        result = subprocess.run(
            ["/bin/sh", "-c", line],
            cwd=ROOT,
            env={"PATH": f"{grpcurl.binary.parent}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert result.returncode == 0, result.stderr
        shown.append(result.stdout)
    assert "kongflow.v1.EndpointService" in shown[0]
    assert "Registers an endpoint" in shown[1]
    assert json.loads(shown[2]) is not None
