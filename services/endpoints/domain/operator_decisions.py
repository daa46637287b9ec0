"""What an operator may do with a queue job, by its state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from services.endpoints.domain.errors import KongflowError, Reason
from services.endpoints.domain.json_text import find_unstorable
from services.endpoints.domain.queue_job import QueueJobState
from services.endpoints.domain.transitions import TRANSITIONS, Transition

if TYPE_CHECKING:
    from uuid import UUID

MAX_PAUSE_REASON_CHARACTERS: Final = 500
MAX_LANE_CHARACTERS: Final = 200


def lane_problem(lane: str) -> str | None:
    """Return why no lane can have that name; None when one can."""
    if len(lane) > MAX_LANE_CHARACTERS or "\x00" in lane:
        return f"must be at most {MAX_LANE_CHARACTERS} characters without NUL"
    return None


def pause_reason_problem(reason: str) -> str | None:
    """Return what is wrong with the reason that somebody gives for a pause; None when it can be kept."""
    if len(reason) > MAX_PAUSE_REASON_CHARACTERS:
        return f"must be at most {MAX_PAUSE_REASON_CHARACTERS} characters"
    return find_unstorable(reason)


def wrong_state(queue_job_id: UUID, state: QueueJobState, message: str) -> KongflowError:
    """Return the refusal of something that a queue job's state forbids."""
    return KongflowError(
        message,
        reason=Reason.WRONG_STATE,
        metadata={"resource": "queue job", "queue_job_id": str(queue_job_id), "state": state.value},
    )


def retry_refusal(queue_job_id: UUID, state: QueueJobState, *, allow_repeat: bool) -> KongflowError | None:
    """Return why a queue job in this state may not be retried; None when it may."""
    if state not in TRANSITIONS[Transition.RETRY]:
        return wrong_state(
            queue_job_id,
            state,
            f"The queue job is {state.value}: it has not ended, so there is nothing to retry.",
        )
    if state is QueueJobState.COMPLETED and not allow_repeat:
        return wrong_state(
            queue_job_id,
            state,
            "The queue job is COMPLETED: retrying it repeats its effect; say so with allow_repeat.",
        )
    return None


def cancel_refusal(queue_job_id: UUID, state: QueueJobState) -> KongflowError | None:
    """Return why a queue job in this state may not be cancelled; None when it may, or has been."""
    if state is QueueJobState.CANCELLED or state in TRANSITIONS[Transition.CANCEL]:
        return None
    return wrong_state(queue_job_id, state, f"The queue job is {state.value}: there is nothing left to cancel.")
