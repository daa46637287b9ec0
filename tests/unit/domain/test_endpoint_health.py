"""The health of an endpoint: every state with every sign, and when probes come."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest

from services.endpoints.domain.endpoint import EndpointState
from services.endpoints.domain.endpoint_calls import CallFailure, EndpointCallError, PingResult
from services.endpoints.domain.endpoint_health import (
    API_KEY_HINT,
    NEXT_STATE,
    WELL,
    Event,
    Finding,
    Health,
    HealthPolicy,
    Sign,
    finding_of_error,
    finding_of_failure,
    finding_of_ping,
)

HEALTHY, FAILING, SUSPENDED = EndpointState.HEALTHY, EndpointState.FAILING, EndpointState.SUSPENDED
POLICY = HealthPolicy(failing_after=3, suspended_after=6)
JUST_BELOW_ONE = 1 - 2**-53
FAILED = Finding(Sign.FAILED, "It did not answer.")


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def test_the_table_names_a_next_state_for_every_state_and_event() -> None:
    named = {(state, event) for state, events in NEXT_STATE.items() for event in events}
    assert named == set(product(EndpointState, Event))


def test_only_an_answer_or_an_operator_leads_to_health() -> None:
    for state in (FAILING, SUSPENDED):
        healing = {event for event, following in NEXT_STATE[state].items() if following is HEALTHY}
        assert healing == {Event.ANSWER, Event.RESUMED}


def test_failures_in_a_row_lead_from_healthy_to_failing_to_suspended() -> None:
    health, states = WELL, []
    for _ in range(7):
        health = POLICY.after(health, FAILED, jitter=0.5)
        states.append(health.state)
    assert states == [HEALTHY, HEALTHY, FAILING, FAILING, FAILING, SUSPENDED, SUSPENDED]
    assert health.consecutive_failures == 7
    assert health.reason == "It did not answer."


@pytest.mark.parametrize("state", EndpointState)
def test_one_answer_wipes_the_slate_whatever_was(state: EndpointState) -> None:
    before = Health(state, 19, "It did not answer.")
    assert POLICY.after(before, Finding(Sign.ANSWERED), jitter=0.5) == WELL


@pytest.mark.parametrize("state", EndpointState)
def test_a_farewell_suspends_at_once(state: EndpointState) -> None:
    after = POLICY.after(Health(state), Finding(Sign.GONE, "It is gone."), jitter=0.5)
    assert (after.state, after.reason, after.consecutive_failures) == (SUSPENDED, "It is gone.", 1)
    assert after.next_probe_in == timedelta(hours=1)


@pytest.mark.parametrize("sign", [Sign.BUSY, Sign.UNUSABLE])
def test_what_is_no_failure_changes_no_state_and_counts_for_the_next_probe_only(sign: Sign) -> None:
    for state in EndpointState:
        before = Health(state, 5, "It did not answer.")
        after = POLICY.after(before, Finding(sign, "Not now.", seconds(7)), jitter=0.5)
        assert (after.state, after.consecutive_failures) == (state, 5 if state is HEALTHY else 6)
        assert after.quiet_for == (seconds(7) if state is HEALTHY else None)
        assert after.reason == (None if state is HEALTHY else "It did not answer.")
        assert (after.next_probe_in is None) == (state is HEALTHY)


def test_probes_that_find_nothing_out_come_less_and_less_often_as_well() -> None:
    health, delays = Health(FAILING, 3, "It did not answer."), []
    for _ in range(6):
        health = HealthPolicy().after(health, Finding(Sign.UNUSABLE, "No."), jitter=JUST_BELOW_ONE)
        assert health.next_probe_in is not None
        delays.append(round(health.next_probe_in.total_seconds()))
    assert delays == [60, 120, 240, 480, 900, 900]


def test_probes_of_a_failing_endpoint_come_less_and_less_often() -> None:
    delays = [HealthPolicy().probe_delay(FAILING, count, jitter=JUST_BELOW_ONE) for count in range(3, 11)]
    assert [round(delay.total_seconds()) for delay in delays] == [30, 60, 120, 240, 480, 900, 900, 900]


def test_jitter_spreads_probes_and_never_makes_them_later_than_the_series() -> None:
    assert HealthPolicy().probe_delay(FAILING, 3, jitter=0) == seconds(15)
    assert HealthPolicy().probe_delay(SUSPENDED, 99, jitter=0) == timedelta(minutes=54)
    assert HealthPolicy().probe_delay(SUSPENDED, 99, jitter=JUST_BELOW_ONE) <= timedelta(minutes=66)


def test_an_endpoint_that_asks_for_time_is_probed_later_and_never_earlier() -> None:
    def probe_in(retry_after: timedelta | None) -> timedelta | None:
        return POLICY.after(Health(FAILING, 3), Finding(Sign.FAILED, "No.", retry_after), jitter=0).next_probe_in

    assert probe_in(None) == seconds(30)
    assert probe_in(seconds(5)) == seconds(30)
    assert probe_in(seconds(1000)) == seconds(1000)


def test_production_endpoints_are_indexed_anew_within_a_tenth_of_a_day_of_each_other() -> None:
    policy = HealthPolicy()
    assert policy.next_index_in(jitter=0) == timedelta(hours=21.6)
    assert policy.next_index_in(jitter=0.5) == timedelta(hours=24)
    assert HealthPolicy(reindex_every=timedelta()).next_index_in(jitter=0.5) == timedelta(hours=24)


@pytest.mark.parametrize(
    ("failure", "http_status", "sign"),
    [
        (CallFailure.NAME_NOT_RESOLVED, None, Sign.FAILED),
        (CallFailure.NOT_CONNECTED, None, Sign.FAILED),
        (CallFailure.TLS, None, Sign.FAILED),
        (CallFailure.TIMED_OUT, None, Sign.FAILED),
        (CallFailure.DISCONNECTED, None, Sign.FAILED),
        (CallFailure.INVALID_HTTP, None, Sign.FAILED),
        (CallFailure.NOT_JSON, 200, Sign.FAILED),
        (CallFailure.UNAUTHORIZED, 401, Sign.FAILED),
        (CallFailure.STATUS, 404, Sign.FAILED),
        (CallFailure.STATUS, 503, Sign.FAILED),
        (CallFailure.STATUS, 410, Sign.GONE),
        (CallFailure.STATUS, 429, Sign.BUSY),
        (CallFailure.ADDRESS_NOT_ALLOWED, None, Sign.UNUSABLE),
        (CallFailure.TOO_LARGE, 200, Sign.UNUSABLE),
        (CallFailure.BAD_SCHEMA, 200, Sign.UNUSABLE),
        (CallFailure.REPORTED, 200, Sign.UNUSABLE),
    ],
)
def test_what_a_failed_call_says(failure: CallFailure, http_status: int | None, sign: Sign) -> None:
    assert finding_of_failure(failure, http_status, "No", None).sign is sign


def test_a_refused_key_comes_with_a_hint() -> None:
    error = EndpointCallError("Trigger API key is invalid", failure=CallFailure.UNAUTHORIZED, http_status=401)
    finding = finding_of_error(error)
    assert finding is not None
    assert finding.reason == f"Trigger API key is invalid. {API_KEY_HINT}"


def test_errors_that_are_not_of_the_endpoint_say_nothing() -> None:
    assert finding_of_error(None) is None
    assert finding_of_error(ValueError("ours")) is None


def test_what_a_ping_says() -> None:
    good = PingResult(ok=True, error=None, http_status=200, duration=seconds(1))
    away = PingResult(
        ok=False, error="No", http_status=503, duration=seconds(1), failure=CallFailure.STATUS, retry_after=seconds(9)
    )
    assert finding_of_ping(good).sign is Sign.ANSWERED
    assert finding_of_ping(away) == Finding(Sign.FAILED, "No", seconds(9))
