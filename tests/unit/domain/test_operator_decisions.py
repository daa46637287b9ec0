"""What an operator may do, state by state."""

from __future__ import annotations

from uuid import uuid4

import pytest

from services.endpoints.domain.errors import Reason
from services.endpoints.domain.lanes import LaneOwner, lane_owner
from services.endpoints.domain.operator_decisions import cancel_refusal, retry_refusal
from services.endpoints.domain.queue_job import QueueJobState

ID = uuid4()
S = QueueJobState


@pytest.mark.parametrize("state", QueueJobState)
@pytest.mark.parametrize("allow_repeat", [False, True])
def test_retry_is_refused_before_the_end_and_for_what_would_be_repeated(
    state: QueueJobState, allow_repeat: bool
) -> None:
    refusal = retry_refusal(ID, state, allow_repeat=allow_repeat)
    if state in {S.SCHEDULED, S.DISCARDED, S.CANCELLED} or (state is S.COMPLETED and allow_repeat):
        assert refusal is None
    else:
        assert refusal is not None
        assert refusal.reason is Reason.WRONG_STATE
        assert refusal.metadata == {"resource": "queue job", "queue_job_id": str(ID), "state": state.value}
        assert ("allow_repeat" in refusal.message) is (state is S.COMPLETED)


@pytest.mark.parametrize("state", QueueJobState)
def test_cancel_is_refused_once_it_is_done_or_dead(state: QueueJobState) -> None:
    refusal = cancel_refusal(ID, state)
    if state in {S.COMPLETED, S.DISCARDED}:
        assert refusal is not None
        assert (refusal.reason, refusal.metadata["state"]) == (Reason.WRONG_STATE, state.value)
    else:
        assert refusal is None


def test_lane_is_of_an_endpoint_of_an_environment_or_of_nobody() -> None:
    assert lane_owner(f"endpoint-{ID}") == LaneOwner(endpoint_id=ID)
    assert lane_owner(f"environment-{ID}-3") == LaneOwner(environment_id=ID)
    for lane in ("maintenance", f"environment-{ID}-4", f"environment-{ID}", f"endpoint-{ID}-1", "endpoint-", ""):
        assert lane_owner(lane) is None
