"""Lane keys: what is in one lane, and whose lane it is that a name stands for."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Final
from uuid import UUID

MAINTENANCE_LANE: Final = "maintenance"
_EVENT_LANES: Final = 4
_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ENDPOINT: Final = re.compile(rf"endpoint-({_UUID})", re.ASCII)
_EVENTS: Final = re.compile(rf"environment-({_UUID})-[0-{_EVENT_LANES - 1}]", re.ASCII)


@dataclass(frozen=True, slots=True)
class LaneOwner:
    """Whose lane it is: exactly one of the two is set."""

    endpoint_id: UUID | None = None
    environment_id: UUID | None = None


def endpoint_lane(endpoint_id: UUID) -> str:
    """Return the lane key of everything that concerns one endpoint."""
    return f"endpoint-{endpoint_id}"


def event_lane(environment_id: UUID, event_id: str) -> str:
    """Return the lane key of everything that concerns one event: an environment has four, so that its events share."""
    return f"environment-{environment_id}-{zlib.crc32(event_id.encode()) % _EVENT_LANES}"


def lane_owner(lane: str) -> LaneOwner | None:
    """Return whose lane `lane` is; None for one that belongs to no environment, such as `maintenance`."""
    if match := _ENDPOINT.fullmatch(lane):
        return LaneOwner(endpoint_id=UUID(match[1]))
    if match := _EVENTS.fullmatch(lane):
        return LaneOwner(environment_id=UUID(match[1]))
    return None
