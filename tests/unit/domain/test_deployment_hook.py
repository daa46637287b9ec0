"""What a deployment hook's body says."""

from __future__ import annotations

from typing import Any

import pytest

from services.endpoints.domain.deployment_hook import deployment_reason


def hook(*, kind: str = "deployment.succeeded", meta: dict[str, Any] | None = None) -> dict[str, Any]:
    deployment = {"id": "d", "name": "shop", "url": "shop.example", "meta": meta or {}, "inspectorUrl": "x"}
    return {"type": kind, "createdAt": 1, "payload": {"deployment": deployment, "links": {}}}


def test_commit_is_named_when_the_body_has_one() -> None:
    meta = {"githubCommitMessage": "Fix", "githubCommitRef": "main", "githubCommitSha": "0123456789"}

    assert deployment_reason(hook(meta=meta)) == '"Fix" was deployed from main (0123456) to shop'


def test_project_is_named_without_a_commit() -> None:
    assert deployment_reason(hook()) == "Vercel project shop was deployed to shop.example"


@pytest.mark.parametrize("body", [None, 7, [], {}, {"type": "deployment.succeeded"}, hook(kind="deployment.created")])
def test_other_bodies_give_no_reason(body: Any) -> None:
    assert deployment_reason(body) is None


def test_reason_is_bounded() -> None:
    meta = {"githubCommitMessage": "x" * 5_000, "githubCommitRef": "main", "githubCommitSha": "0123456789"}

    assert len(deployment_reason(hook(meta=meta)) or "") == 1_000
