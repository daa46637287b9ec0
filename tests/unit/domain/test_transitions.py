"""What the table of transitions says as a whole; the ledger's statements are held against it one by one."""

from __future__ import annotations

from services.endpoints.domain.transitions import TRANSITIONS, Transition


def test_only_an_operator_leads_out_of_a_final_state() -> None:
    for transition, edges in TRANSITIONS.items():
        for state in edges:
            assert not state.is_final or transition is Transition.RETRY
