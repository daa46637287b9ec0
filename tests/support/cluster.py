"""A cluster's API as far as the commands of the guide use it: what is applied is kept, and deployments are done.

It keeps objects, merges patches as a cluster does, and holds a replica set for each template that a deployment has had,
from which `kubectl rollout undo` reads. Pods it has none.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import re
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import uuid4

from aiohttp import web
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet

if TYPE_CHECKING:
    from pathlib import Path

# Kind by group and version, with the plural and whether it lives in a namespace.
KINDS: Final = {
    "api/v1": {
        "Namespace": ("namespaces", False),
        "Secret": ("secrets", True),
        "Service": ("services", True),
        "ServiceAccount": ("serviceaccounts", True),
        "ConfigMap": ("configmaps", True),
    },
    "apis/apps/v1": {"Deployment": ("deployments", True), "ReplicaSet": ("replicasets", True)},
    "apis/batch/v1": {"Job": ("jobs", True)},
    "apis/policy/v1": {"PodDisruptionBudget": ("poddisruptionbudgets", True)},
    "apis/autoscaling/v2": {"HorizontalPodAutoscaler": ("horizontalpodautoscalers", True)},
    "apis/networking.k8s.io/v1": {"NetworkPolicy": ("networkpolicies", True)},
}
_PLACE: Final = re.compile(
    r"^/(?P<version>api/v1|apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?$"
)
_REVISION: Final = "deployment.kubernetes.io/revision"


class FakeCluster:
    """The API on a free port, and what it was given, by path."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.port = 0
        self._closing = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        if self._runner is not None:
            await self._runner.cleanup()

    def write_configuration(self, path: Path) -> None:
        """Write the file of KUBECONFIG that leads here."""
        path.write_text(
            "{apiVersion: v1, kind: Config, current-context: fake, contexts: [{name: fake, context: {cluster: fake}}],"
            f" clusters: [{{name: fake, cluster: {{server: 'http://127.0.0.1:{self.port}'}}}}]}}\n"
        )

    def of(self, plural: str) -> dict[str, dict[str, Any]]:
        """Return what there is of one kind, by name."""
        return {kept["metadata"]["name"]: kept for path, kept in self.objects.items() if f"/{plural}/" in path}

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        known = _about_the_api(request.path)
        if known is not None:
            return web.json_response(known)
        place = _PLACE.match(request.path)
        if place is None:
            return _refusal(404, "NotFound")
        if place["name"] is None:
            return await self._answer_collection(request, place)
        return await self._answer_one(request)

    async def _answer_collection(self, request: web.Request, place: re.Match[str]) -> web.StreamResponse:
        if request.method == "POST":
            given = _read(await request.read())
            path = f"{request.path}/{given['metadata']['name']}"
            if path in self.objects:
                return _refusal(409, "AlreadyExists")
            given["metadata"] |= {"uid": str(uuid4()), "creationTimestamp": "2026-01-01T00:00:00Z"}
            self._keep(path, given)
            return web.json_response(self.objects[path], status=201)
        if "watch" in request.query:
            return await self._watch(request)
        names = dict(term.split("=", 1) for term in request.query.get("fieldSelector", "").split(",") if term)
        found = [
            kept
            for path, kept in self.objects.items()
            if path.startswith(f"{request.path}/")
            and names.get("metadata.name", kept["metadata"]["name"]) == kept["metadata"]["name"]
            and _has_labels(kept, request.query.get("labelSelector", ""))
        ]
        [kind] = [kind for kind, (plural, _) in KINDS[place["version"]].items() if plural == place["plural"]]
        version = place["version"].partition("/")[2]
        described = {"kind": f"{kind}List", "apiVersion": version, "metadata": {"resourceVersion": "1"}}
        return web.json_response({**described, "items": found})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        if "sendInitialEvents" in request.query:
            return _refusal(422, "Invalid")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        await self._closing.wait()
        return response

    async def _answer_one(self, request: web.Request) -> web.StreamResponse:
        if request.path not in self.objects:
            return _refusal(404, "NotFound")
        if request.method == "DELETE":
            return web.json_response(self.objects.pop(request.path))
        if request.method == "PATCH":
            patch = await request.json()
            patched = copy.deepcopy(self.objects[request.path])
            patched = _replaced(patched, patch) if isinstance(patch, list) else _merged(patched, patch)
            if patched["kind"] == "Job" and patched["spec"] != self.objects[request.path]["spec"]:
                return _refusal(422, "Invalid")
            self._keep(request.path, patched)
        return web.json_response(self.objects[request.path])

    def _keep(self, path: str, given: dict[str, Any]) -> None:
        metadata = given["metadata"]
        metadata["resourceVersion"] = str(int(metadata.get("resourceVersion", "0")) + 1)
        self.objects[path] = given
        if given["kind"] == "Deployment":
            metadata["generation"] = metadata.get("generation", 0) + 1
            self._roll_out(path, given)

    def _roll_out(self, path: str, deployment: dict[str, Any]) -> None:
        """Do what the controller of deployments does, and be done at once."""
        name, spec = deployment["metadata"]["name"], deployment["spec"]
        owned = path.replace("/deployments/", "/replicasets/")
        sets = {key: kept for key, kept in self.objects.items() if key.startswith(f"{owned}-")}
        newest = max((_revision(kept) for kept in sets.values()), default=0)
        current = next((kept for kept in sets.values() if kept["spec"]["template"] == spec["template"]), None)
        if current is None:
            uid = deployment["metadata"]["uid"]
            owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": uid, "controller": True}
            current = self.objects[f"{owned}-{len(sets) + 1}"] = {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {
                    "name": f"{name}-{len(sets) + 1}",
                    "namespace": deployment["metadata"].get("namespace", "kongflow"),
                    "uid": str(uuid4()),
                    "labels": spec["template"]["metadata"]["labels"],
                    "annotations": {_REVISION: "0"},
                    "ownerReferences": [owner],
                },
                "spec": {"replicas": 0, "selector": spec["selector"], "template": copy.deepcopy(spec["template"])},
            }
        if _revision(current) < newest or newest == 0:
            current["metadata"]["annotations"][_REVISION] = str(newest + 1)
        deployment["metadata"].setdefault("annotations", {})[_REVISION] = str(_revision(current))
        count = spec.get("replicas", 1)
        told = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count)
        deployment["status"] = {"observedGeneration": deployment["metadata"]["generation"], **told}


def _read(body: bytes) -> dict[str, Any]:
    """Return a new object, which kubectl sends as JSON or, when it made it itself, as protobuf.

    Of protobuf only what it makes here is read: a namespace's and a secret's name, and the secret's data.

    Source: Kubernetes API concepts, "Alternate representations of resources".
    """
    if not body.startswith(_PROTOBUF):
        given: dict[str, Any] = json.loads(body)
        return given
    envelope = _fields(body.removeprefix(_PROTOBUF))
    described = _fields(envelope[1][0])
    content = _fields(envelope[2][0])
    entries = [_fields(entry) for entry in content.get(2, [])]
    [name] = _fields(content[1][0])[1]
    kind = described[2][0].decode()
    data = {entry[1][0].decode(): base64.b64encode(entry[2][0]).decode() for entry in entries if kind == "Secret"}
    return {"apiVersion": described[1][0].decode(), "kind": kind, "metadata": {"name": name.decode()}, "data": data}


_PROTOBUF: Final = b"k8s\0"


def _fields(message: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    fields = UnknownFieldSet(Empty.FromString(message))
    for one in (fields[index] for index in range(len(fields))):
        found.setdefault(one.field_number, []).append(one.data)
    return found


def _revision(kept: dict[str, Any]) -> int:
    return int(kept["metadata"]["annotations"][_REVISION])


def _about_the_api(path: str) -> dict[str, Any] | None:
    """Return what clients ask first: which kinds there are, and that PATCH judges fields."""
    groups = [version.split("/")[1:] for version in KINDS if version != "api/v1"]
    described: dict[str, dict[str, Any]] = {
        "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*group) for group in groups]},
        "/openapi/v3": {"paths": {key: {"serverRelativeURL": f"/openapi/v3/{key}"} for key in KINDS}},
    }
    for version, kinds in KINDS.items():
        described[f"/{version}"] = {
            "kind": "APIResourceList",
            "groupVersion": version.partition("/")[2],
            "resources": [
                {"name": plural, "singularName": kind.lower(), "namespaced": namespaced, "kind": kind, "verbs": _VERBS}
                for kind, (plural, namespaced) in kinds.items()
            ],
        }
        described[f"/openapi/v3/{version}"] = {
            "openapi": "3.0.0",
            "info": {"title": "fake", "version": "1"},
            "paths": {f"/{version}/{plural}/{{name}}": _judged(version, kind) for kind, (plural, _) in kinds.items()},
        }
    return described.get(path)


_VERBS: Final = ["create", "delete", "get", "list", "patch", "watch"]


def _group(name: str, version: str) -> dict[str, Any]:
    told = {"groupVersion": f"{name}/{version}", "version": version}
    return {"name": name, "versions": [told], "preferredVersion": told}


def _judged(version: str, kind: str) -> dict[str, Any]:
    *group, number = version.split("/")[1:]
    named = {"group": "".join(group), "version": number, "kind": kind}
    judges = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
    return {"patch": {"x-kubernetes-group-version-kind": named, "parameters": [judges], "responses": {}}}


def _refusal(code: int, reason: str) -> web.Response:
    told = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
    return web.json_response({**told, "message": reason}, status=code)


def _has_labels(kept: dict[str, Any], selector: str) -> bool:
    wanted = dict(term.split("=", 1) for term in selector.split(",") if term)
    labels: dict[str, str] = kept["metadata"].get("labels", {})
    return wanted.items() <= labels.items()


def _merged(kept: Any, patch: Any) -> Any:
    """Merge a strategic patch: maps by key, lists of named things by name, all else as it comes.

    Source: Kubernetes, strategic merge patch.
    """
    if isinstance(kept, dict) and isinstance(patch, dict):
        for key, value in patch.items():
            if value is None:
                kept.pop(key, None)
            elif not key.startswith("$"):
                kept[key] = _merged(kept.get(key), value)
        return kept
    if isinstance(kept, list) and isinstance(patch, list) and all("name" in one for one in (*kept, *patch)):
        by_name = {one["name"]: one for one in kept}
        return list((by_name | {one["name"]: _merged(by_name.get(one["name"]), one) for one in patch}).values())
    return patch


def _replaced(kept: dict[str, Any], operations: list[dict[str, Any]]) -> dict[str, Any]:
    """Do the operations of a JSON patch, of which kubectl uses two.

    Source: RFC 6902.
    """
    for operation in operations:
        assert operation["op"] in ("add", "replace")
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        target = kept
        for part in way:
            target = target[part]
        target[last] = operation["value"]
    return kept
