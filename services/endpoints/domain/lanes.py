"""Lane keys: whose lane it is that a name stands for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_ENDPOINT: Final = re.compile(rf"endpoint-({_UUID})", re.ASCII)
# An environment's events are spread over four lanes.
_ENVIRONMENT: Final = re.compile(rf"environment-({_UUID})-[0-3]", re.ASCII)


@dataclass(frozen=True, slots=True)
class LaneOwner:
    """Whose lane it is: exactly one of the two is set."""

    endpoint_id: UUID | None = None
    environment_id: UUID | None = None


def lane_owner(lane: str) -> LaneOwner | None:
    """Return whose lane `lane` is; None for one that belongs to no environment, such as `maintenance`."""
    if match := _ENDPOINT.fullmatch(lane):
        return LaneOwner(endpoint_id=UUID(match[1]))
    if match := _ENVIRONMENT.fullmatch(lane):
        return LaneOwner(environment_id=UUID(match[1]))
    return None
