"""The state machine of a queue job: the only place that names a next state."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from services.endpoints.domain.queue_job import QueueJobState

if TYPE_CHECKING:
    from collections.abc import Mapping


class Transition(Enum):
    """What can happen to a queue job."""

    FALL_DUE = "fall due"
    HASTEN = "hasten"
    PUT_OFF = "put off"
    START = "start"
    COMPLETE = "complete"
    FAIL = "fail, attempts left"
    FAIL_FOR_GOOD = "fail for good"
    SNOOZE = "snooze"
    RESCUE = "rescue"
    SUPERSEDE = "supersede"
    CANCEL = "cancel"
    RETRY = "retry by an operator"


_S: Final = QueueJobState

TRANSITIONS: Final[Mapping[Transition, Mapping[QueueJobState, QueueJobState]]] = {
    Transition.FALL_DUE: {_S.SCHEDULED: _S.AVAILABLE},
    Transition.HASTEN: {_S.SCHEDULED: _S.AVAILABLE},
    Transition.PUT_OFF: {_S.AVAILABLE: _S.SCHEDULED},
    Transition.START: {_S.AVAILABLE: _S.RUNNING},
    Transition.COMPLETE: {_S.AVAILABLE: _S.COMPLETED, _S.RUNNING: _S.COMPLETED},
    Transition.FAIL: {_S.AVAILABLE: _S.SCHEDULED, _S.RUNNING: _S.SCHEDULED},
    Transition.FAIL_FOR_GOOD: {_S.AVAILABLE: _S.DISCARDED, _S.RUNNING: _S.DISCARDED},
    Transition.SNOOZE: {_S.AVAILABLE: _S.SCHEDULED, _S.RUNNING: _S.SCHEDULED},
    Transition.RESCUE: {_S.RUNNING: _S.AVAILABLE},
    Transition.SUPERSEDE: {_S.SCHEDULED: _S.COMPLETED, _S.AVAILABLE: _S.COMPLETED},
    Transition.CANCEL: {_S.SCHEDULED: _S.CANCELLED, _S.AVAILABLE: _S.CANCELLED, _S.RUNNING: _S.CANCELLED},
    Transition.RETRY: {
        _S.SCHEDULED: _S.AVAILABLE,
        _S.COMPLETED: _S.AVAILABLE,
        _S.DISCARDED: _S.AVAILABLE,
        _S.CANCELLED: _S.AVAILABLE,
    },
}
