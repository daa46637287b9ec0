"""The commands of the image, of docker-compose.yml and of the Kubernetes manifests, in a clean virtual environment."""

from __future__ import annotations

import asyncio
import re
import shlex
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
import yaml

from tests.support.command import ROOT
from tests.support.eventually import eventually
from tests.support.image import Image, built_image
from tests.support.ports import free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

# The one environment is made by one process.
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(900), pytest.mark.xdist_group("image")]

BASE: Final = ROOT / "deploy" / "kubernetes" / "base"
SECRETS: Final = {
    "KONGFLOW_ADMIN_TOKEN": "kf_admin_" + "a" * 40,
    "KONGFLOW_SECRET_KEYS": "11" * 32,
    "KONGFLOW_LOOKUP_PEPPER": "22" * 32,
}
# What makes a user is done as root in a container; the numbers it gives are checked instead.
ONLY_IN_A_CONTAINER: Final = ("groupadd",)
# Containers of compose that this project only configures: their images are not here.
NOT_OURS: Final = {
    "postgres": "the tests run a PostgreSQL of their own",
    "redis": "the tests run a Redis of their own, with the same policy",
    "prometheus": "no binary of it is at hand; its rules and metrics are compared in tests/unit",
    "grafana": "no binary of it is at hand; its dashboard and metrics are compared in tests/unit",
}
WITHIN: Final = timedelta(seconds=60)
TRY_SECONDS: Final = 30
STOP_SECONDS: Final = 40


@dataclass(frozen=True, slots=True)
class Container:
    """One of our containers as a file describes it: what it is given, and how its health is asked for."""

    arguments: list[str]
    variables: dict[str, str]
    check: list[str]
    probes: list[str]


@dataclass(slots=True)
class Place:
    """Where this test's servers are, in the variables by which containers are told."""

    image: Image
    variables: dict[str, str]
    ports: dict[str, int]

    def of(self, container: Container) -> dict[str, str]:
        """Return the container's variables, with the addresses and secrets of this place."""
        given = {name: self.image.inside(value) for name, value in container.variables.items()}
        return given | {name: value for name, value in self.variables.items() if name in given}

    def moved(self, words: Sequence[str], *, service: str) -> list[str]:
        """Return a health check's words with the port that the service has here."""
        return [re.sub(r"(?<=127\.0\.0\.1:)\d+", str(self.ports[service]), word) for word in words]


def of_compose(name: str) -> Container:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"][name]
    variables = {key: filled(value) for key, value in service["environment"].items()}
    return Container(service["command"], variables, service.get("healthcheck", {}).get("test", [])[1:], [])


def filled(value: str) -> str:
    """Return a value as compose fills it in where .env has nothing but what is required, which is `secret`."""
    return re.sub(r"\$\{\w+:(\?|-)([^}]*)\}", lambda found: "secret" if found[1] == "?" else found[2], value)


def of_kubernetes(name: str) -> Container:
    resources = [one for path in BASE.glob("*.yaml") for one in yaml.safe_load_all(path.read_text())]
    [pod] = [
        resource["spec"]["template"]["spec"]
        for resource in resources
        if resource["kind"] in ("Deployment", "Job") and resource["metadata"]["name"] == name
    ]
    [container] = pod["containers"]
    variables = {variable["name"]: variable.get("value", "secret") for variable in container["env"]}
    probes = [container[kind]["httpGet"]["path"] for kind in ("livenessProbe", "readinessProbe") if kind in container]
    return Container(container["args"], variables, [], probes)


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    with built_image() as image:
        yield image


@pytest.fixture
def place(image: Image, empty_database_url: str, redis_url: str) -> Place:
    grpc, http, metrics, worker = free_ports(4)
    manifest = yaml.safe_load((BASE / "configuration.yaml").read_text())
    configuration = image.path("/etc/kongflow/kongflow.yaml")
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(manifest["data"]["kongflow.yaml"])
    variables = {
        **SECRETS,
        "KONGFLOW_DATABASE_URL": empty_database_url,
        "KONGFLOW_REDIS_URL": redis_url,
        "KONGFLOW_GRPC_ADDRESS": f"127.0.0.1:{grpc}",
        "KONGFLOW_HTTP_ADDRESS": f"127.0.0.1:{http}",
        "KONGFLOW_METRICS_ADDRESS": f"127.0.0.1:{metrics}",
        "KONGFLOW_GRPC_TARGET": f"dns:///127.0.0.1:{grpc}",
        "KONGFLOW_WORKER_HEALTH_ADDRESS": f"127.0.0.1:{worker}",
    }
    return Place(image, variables, {"endpoints": http, "worker": worker, "grpc": grpc})


async def run(image: Image, words: Sequence[str], variables: Mapping[str, str]) -> tuple[int | None, str]:
    """Run a command as a container would; return its exit code and what it said."""
    process = await start(image, words, variables)
    try:
        output, _ = await asyncio.wait_for(process.communicate(), TRY_SECONDS)
    except TimeoutError:
        process.kill()
        raise
    return process.returncode, output.decode()


async def start(image: Image, words: Sequence[str], variables: Mapping[str, str]) -> asyncio.subprocess.Process:
    program, *arguments = words
    return await asyncio.create_subprocess_exec(
        *(found_on_path(image, program), *arguments),
        cwd=image.path(""),
        env={**image.variables, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


def found_on_path(image: Image, program: str) -> str:
    """Return where the image has a program: nothing of this test's own environment may stand in for it."""
    binary = image.path("/opt/kongflow/bin") / program
    assert binary.exists()
    return str(binary)


@asynccontextmanager
async def running(place: Place, name: str, container: Container) -> AsyncIterator[None]:
    """Run a service until it is healthy by its own check, then the block, then stop it as its file says."""
    words = [*place.image.entrypoint, *container.arguments]
    process = await start(place.image, words, place.of(container))
    said = asyncio.create_task(process.communicate())
    try:
        await eventually(partial(is_healthy, place, name, container, process), within=WITHIN)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        output, _ = await asyncio.wait_for(said, STOP_SECONDS)
    assert process.returncode == 0, output.decode()


async def is_healthy(place: Place, name: str, container: Container, process: asyncio.subprocess.Process) -> bool:
    if process.returncode is not None:
        pytest.fail(f"{name} ended with {process.returncode}")
    if container.check:
        code, output = await run(place.image, place.moved(container.check, service=name), {})
        assert code == 0, output
    async with aiohttp.ClientSession() as client:
        for probe in container.probes:
            try:
                async with client.get(f"http://127.0.0.1:{place.ports[name]}{probe}") as answer:
                    assert answer.status == 200, await answer.text()
            except aiohttp.ClientConnectionError as error:
                raise AssertionError(f"{probe}: {error}") from error
    return True


async def test_image_holds_what_the_locks_pin_and_nothing_else(image: Image) -> None:
    locks = "".join((ROOT / "requirements" / f"{name}.txt").read_text() for name in ("build", "service"))
    pinned = re.findall(r"^([\w.-]+)==([\w.!+-]+)( *;)?", locks, re.MULTILINE)
    code, listed = await run(image, ["python", "-m", "pip", "list", "--format=freeze"], {})
    assert code == 0
    held = {normal(name): version for name, version in re.findall(r"^([\w.-]+)==(.+)$", listed, re.MULTILINE)}
    assert held.pop("kongflow")
    allowed = {normal(name): version for name, version, _ in pinned}
    # What `venv` brings by itself.
    held = {name: version for name, version in held.items() if name in allowed or name not in {"pip", "setuptools"}}
    assert held.items() <= allowed.items()
    assert held.keys() >= {normal(name) for name, _, condition in pinned if not condition}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_only_what_makes_the_user_is_left_to_a_container(image: Image) -> None:
    assert [command.split()[0] for command in image.left_out] == list(ONLY_IN_A_CONTAINER)
    [made] = image.left_out
    user, _, group = image.user.partition(":")
    assert f"--gid {group} " in made
    assert f"--uid {user} " in made


def test_every_container_is_started_here_or_says_why_it_is_not() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    assert services.keys() - {"migrate", "endpoints", "worker"} == NOT_OURS.keys()


@pytest.mark.parametrize("described", [of_compose, of_kubernetes])
async def test_containers_start_say_that_they_are_healthy_and_stop(place: Place, described: Any) -> None:
    migrate, endpoints, worker = (described(name) for name in ("migrate", "endpoints", "worker"))
    code, said = await run(place.image, [*place.image.entrypoint, *migrate.arguments], place.of(migrate))
    assert (code, "that is the newest" in said) == (0, True), said
    async with running(place, "endpoints", endpoints):
        place.variables["KONGFLOW_WORKER_TOKEN"] = await worker_token(place)
        code, said = await run(place.image, place.moved(place.image.health, service="endpoints"), {})
        assert code == 0, said
        async with running(place, "worker", worker):
            pass


async def worker_token(place: Place) -> str:
    """Make the worker's token with the command of the guide, which it runs in the container of the server."""
    guide = (ROOT / "docs" / "deploy.md").read_text()
    [command] = re.findall(r"docker compose exec -e KONGFLOW_TOKEN=<admin token> endpoints (.+)", guide)
    variables = {
        "KONGFLOW_TOKEN": SECRETS["KONGFLOW_ADMIN_TOKEN"],
        "KONGFLOW_SERVER": place.variables["KONGFLOW_GRPC_ADDRESS"],
    }
    code, said = await run(place.image, shlex.split(command), variables)
    assert code == 0, said
    [token] = re.findall(r"\bkf_\w+", said)
    return str(token)


@pytest.mark.parametrize("service", ["endpoints", "worker"])
async def test_containers_without_their_secrets_say_so_and_end(place: Place, service: str) -> None:
    container = of_compose(service)
    code, said = await run(place.image, [*place.image.entrypoint, *container.arguments], {})
    assert code == 2, said
    assert "KONGFLOW_" in said
