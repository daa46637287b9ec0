"""Why attempts of queue jobs end without success, in one word each."""

from __future__ import annotations

from enum import StrEnum


class AttemptReason(StrEnum):
    """The names that attempts are stored with; those of a handler that is no part of this catalog may differ.

    What was discarded is counted by them, so that each is one label more.
    """

    CANCELLED = "CANCELLED"
    ENDPOINT_BEING_DELETED = "ENDPOINT_BEING_DELETED"
    ENDPOINT_LEFT_ALONE = "ENDPOINT_LEFT_ALONE"
    ENDPOINT_MOVED = "ENDPOINT_MOVED"
    FAILED_INDEX = "FAILED_INDEX"
    INTERNAL = "INTERNAL"
    LEASE_EXPIRED = "LEASE_EXPIRED"
    POISONED = "POISONED"
    SERVER_OVERLOADED = "SERVER_OVERLOADED"
    TOOK_TOO_LONG = "TOOK_TOO_LONG"
    UNKNOWN_KIND = "UNKNOWN_KIND"
    UNREADABLE_ARGS = "UNREADABLE_ARGS"
    UNREADABLE_CONTENT = "UNREADABLE_CONTENT"
