from __future__ import annotations

from uuid import UUID

import pytest

from services.endpoints.domain.dispatcher import DispatchableType
from services.endpoints.domain.invocation import (
    MAX_REASON_CHARACTERS,
    InvokedDispatcher,
    RunnableVersion,
    Target,
    decide,
)
from services.endpoints.domain.run import InvocationState

JOB, VERSION, ENDPOINT = UUID(int=1), UUID(int=2), UUID(int=3)
READY = Target("ready", JOB, VERSION, ENDPOINT, "2.0.0", is_active=True)
DISABLED = Target("off", JOB, VERSION, ENDPOINT, "2.0.0", is_active=False)
UNVERSIONED = Target("bare", JOB)
UNKNOWN = Target("gone")
RUN = RunnableVersion(JOB, VERSION, ENDPOINT)


def of_job(*targets: Target, is_enabled: bool = True) -> InvokedDispatcher:
    return InvokedDispatcher(is_enabled, DispatchableType.JOB_VERSION, targets)


def of_trigger(*targets: Target, is_trigger_enabled: bool = True) -> InvokedDispatcher:
    return InvokedDispatcher(
        True, DispatchableType.DYNAMIC_TRIGGER, targets, trigger_slug="on-demand", is_trigger_enabled=is_trigger_enabled
    )


@pytest.mark.parametrize(
    ("dispatcher", "state", "runs", "reason"),
    [
        (None, "SKIPPED", 0, "The dispatcher is gone."),
        (of_job(READY, is_enabled=False), "SKIPPED", 0, "The dispatcher is disabled."),
        (of_job(READY), "COMPLETED", 1, None),
        (of_job(), "SKIPPED", 0, "The job of the dispatcher is gone."),
        (of_job(DISABLED), "SKIPPED", 0, "The job 'off' is disabled in its latest version 2.0.0."),
        (of_job(UNVERSIONED), "SKIPPED", 0, "The job 'bare' has no latest version in this environment."),
        (of_trigger(READY, READY), "COMPLETED", 2, None),
        (of_trigger(), "SKIPPED", 0, "The dynamic trigger 'on-demand' has no jobs."),
        (of_trigger(READY, is_trigger_enabled=False), "SKIPPED", 0, "The dynamic trigger 'on-demand' is disabled."),
        (of_trigger(UNKNOWN), "SKIPPED", 0, "The job 'gone' is not offered by the endpoint."),
        (
            of_trigger(READY, UNKNOWN, DISABLED),
            "COMPLETED",
            1,
            "The job 'gone' is not offered by the endpoint. The job 'off' is disabled in its latest version 2.0.0.",
        ),
    ],
)
def test_an_invocation_runs_what_can_run_and_says_what_cannot(
    dispatcher: InvokedDispatcher | None, state: str, runs: int, reason: str | None
) -> None:
    decision = decide(dispatcher)

    assert decision.state is InvocationState[state]
    assert list(decision.versions) == [RUN] * runs
    assert decision.reason == reason


def test_a_reason_is_bounded_and_counts_what_it_leaves_out() -> None:
    decision = decide(of_trigger(READY, *(Target(f"job-{number:03}") for number in range(100))))

    assert decision.reason is not None
    assert len(decision.reason) <= MAX_REASON_CHARACTERS + len(" And 100 more.")
    named = decision.reason.count("is not offered")
    assert 0 < named < 100
    assert decision.reason.endswith(
        f"The job 'job-{named - 1:03}' is not offered by the endpoint. And {100 - named} more."
    )
