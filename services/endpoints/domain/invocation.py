"""What an event that was given to a dispatcher starts, decided from what is stored at that moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from services.endpoints.domain.dispatcher import DispatchableType
from services.endpoints.domain.run import InvocationState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

MAX_REASON_CHARACTERS: Final = 1_000


class RunnableVersion(NamedTuple):
    """A version of a job that may run."""

    job_id: UUID
    version_id: UUID
    endpoint_id: UUID


@dataclass(frozen=True, slots=True)
class Target:
    """A job that a dispatcher names, with the version its alias `latest` points at in the dispatcher's environment.

    `job_id` is None when the endpoint offers no job of this slug, the version's fields when it has no such alias.
    """

    job_slug: str
    job_id: UUID | None = None
    version_id: UUID | None = None
    endpoint_id: UUID | None = None
    version: str | None = None
    is_active: bool = False

    @property
    def hindrance(self) -> str | None:
        """Why it cannot run, to be put after its name; None when it can."""
        if self.job_id is None:
            return "is not offered by the endpoint"
        if self.version_id is None:
            return "has no latest version in this environment"
        return None if self.is_active else f"is disabled in its latest version {self.version}"

    @property
    def runnable(self) -> RunnableVersion | None:
        """What may run of it; None when something hinders it."""
        if self.job_id is None or self.version_id is None or self.endpoint_id is None or not self.is_active:
            return None
        return RunnableVersion(self.job_id, self.version_id, self.endpoint_id)


@dataclass(frozen=True, slots=True)
class InvokedDispatcher:
    """A dispatcher as an invocation finds it; `trigger_slug` and `is_trigger_enabled` are of its dynamic trigger."""

    is_enabled: bool
    dispatchable_type: DispatchableType
    targets: Sequence[Target]
    trigger_slug: str | None = None
    is_trigger_enabled: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of an invocation: a run of each of `versions`, and why nothing runs, or not everything."""

    state: InvocationState
    versions: Sequence[RunnableVersion] = ()
    reason: str | None = None


def decide(dispatcher: InvokedDispatcher | None) -> Decision:
    """Return what an invocation of `dispatcher` starts; None means that it is gone.

    A dynamic trigger starts what can run of its jobs, whatever is wrong with the others.

    Source: protocol, section 3.4; versions are compared as numbers and disabled ones never run (10.4).
    """
    if dispatcher is None:
        return _skipped("The dispatcher is gone.")
    if not dispatcher.is_enabled:
        return _skipped("The dispatcher is disabled.")
    if not dispatcher.is_trigger_enabled:
        return _skipped(f"The dynamic trigger {dispatcher.trigger_slug!r} is disabled.")
    runnable = [version for target in dispatcher.targets if (version := target.runnable) is not None]
    hindered = [target for target in dispatcher.targets if target.runnable is None]
    if not dispatcher.targets and dispatcher.dispatchable_type is DispatchableType.DYNAMIC_TRIGGER:
        return _skipped(f"The dynamic trigger {dispatcher.trigger_slug!r} has no jobs.")
    if not dispatcher.targets:
        return _skipped("The job of the dispatcher is gone.")
    reason = _shortened([f"The job {target.job_slug!r} {target.hindrance}." for target in hindered]) or None
    state = InvocationState.COMPLETED if runnable else InvocationState.SKIPPED
    return Decision(state, runnable, reason)


def _skipped(reason: str) -> Decision:
    return Decision(InvocationState.SKIPPED, reason=reason)


def _shortened(sentences: Sequence[str]) -> str:
    """Return as many sentences as fit into a reason, and how many more there are."""
    text = ""
    for number, sentence in enumerate(sentences):
        longer = f"{text} {sentence}".strip()
        if len(longer) > MAX_REASON_CHARACTERS:
            return f"{text} And {len(sentences) - number} more.".strip()
        text = longer
    return text
