"""Every state and every transition of a queue job."""

from __future__ import annotations

import pytest

from services.endpoints.domain.queue_job import QueueJobState
from services.endpoints.domain.transitions import TRANSITIONS, IllegalTransitionError, Transition, next_state

S = QueueJobState
ALLOWED = {
    (S.SCHEDULED, Transition.FALL_DUE): S.AVAILABLE,
    (S.AVAILABLE, Transition.START): S.RUNNING,
    (S.AVAILABLE, Transition.COMPLETE): S.COMPLETED,
    (S.RUNNING, Transition.COMPLETE): S.COMPLETED,
    (S.AVAILABLE, Transition.FAIL): S.SCHEDULED,
    (S.RUNNING, Transition.FAIL): S.SCHEDULED,
    (S.AVAILABLE, Transition.FAIL_FOR_GOOD): S.DISCARDED,
    (S.RUNNING, Transition.FAIL_FOR_GOOD): S.DISCARDED,
    (S.AVAILABLE, Transition.SNOOZE): S.SCHEDULED,
    (S.RUNNING, Transition.SNOOZE): S.SCHEDULED,
    (S.RUNNING, Transition.RESCUE): S.AVAILABLE,
    (S.SCHEDULED, Transition.SUPERSEDE): S.COMPLETED,
    (S.AVAILABLE, Transition.SUPERSEDE): S.COMPLETED,
    (S.SCHEDULED, Transition.CANCEL): S.CANCELLED,
    (S.AVAILABLE, Transition.CANCEL): S.CANCELLED,
    (S.RUNNING, Transition.CANCEL): S.CANCELLED,
    (S.SCHEDULED, Transition.RETRY): S.AVAILABLE,
    (S.COMPLETED, Transition.RETRY): S.AVAILABLE,
    (S.DISCARDED, Transition.RETRY): S.AVAILABLE,
    (S.CANCELLED, Transition.RETRY): S.AVAILABLE,
}


@pytest.mark.parametrize("state", QueueJobState)
@pytest.mark.parametrize("transition", Transition)
def test_each_pair_leads_where_the_picture_says_or_is_refused(state: QueueJobState, transition: Transition) -> None:
    if (state, transition) in ALLOWED:
        assert next_state(state, transition) is ALLOWED[state, transition]
    else:
        with pytest.raises(IllegalTransitionError, match=state.value):
            next_state(state, transition)


def test_only_an_operator_leads_out_of_a_final_state() -> None:
    for transition, edges in TRANSITIONS.items():
        for state in edges:
            assert not state.is_final or transition is Transition.RETRY
