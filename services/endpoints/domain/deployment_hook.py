"""Reads the body of a deployment hook: why an index was asked for, where the body says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from services.endpoints.domain.json_text import JsonValue

_SUCCEEDED: Final = "deployment.succeeded"
_SHORT_SHA: Final = 7
_MAX_REASON: Final = 1_000


class _GitHubMeta(BaseModel):
    githubCommitMessage: str  # noqa: N815 - the deployment platform's own spelling
    githubCommitRef: str  # noqa: N815 - the same
    githubCommitSha: str  # noqa: N815 - the same


class _Deployment(BaseModel):
    id: str
    meta: dict[str, object]
    name: str
    url: str


class _Payload(BaseModel):
    deployment: _Deployment


class _DeploymentHook(BaseModel):
    type: str
    payload: _Payload


def deployment_reason(body: JsonValue) -> str | None:
    """Return what a Vercel deployment hook says happened; None for every other body.

    With commit metadata: `"<message>" was deployed from <ref> (<7 of sha>) to <name>`; without it
    `Vercel project <name> was deployed to <url>`. At most 1,000 characters.

    Source: protocol, section 2.6.
    """
    try:
        hook = _DeploymentHook.model_validate(body)
    except ValidationError:
        return None
    if hook.type != _SUCCEEDED:
        return None
    deployment = hook.payload.deployment
    try:
        commit = _GitHubMeta.model_validate(deployment.meta)
    except ValidationError:
        return f"Vercel project {deployment.name} was deployed to {deployment.url}"[:_MAX_REASON]
    return (
        f'"{commit.githubCommitMessage}" was deployed from {commit.githubCommitRef} '
        f"({commit.githubCommitSha[:_SHORT_SHA]}) to {deployment.name}"
    )[:_MAX_REASON]
