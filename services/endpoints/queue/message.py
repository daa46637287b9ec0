"""Writes the message that rings the workers: arq's job format, packed with msgpack, naming lanes and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgpack
from arq.jobs import serialize_job

if TYPE_CHECKING:
    from collections.abc import Sequence

MESSAGE_VERSION: Final = 1
FUNCTION_NAME: Final = "run_queue_jobs"
MAX_LANES: Final = 50
MAX_LANE_CHARACTERS: Final = 200
MAX_MESSAGE_BYTES: Final = 64 * 1024


def queue_key(queue: str) -> str:
    """Return the name of the sorted set in which the messages of `queue` wait."""
    return f"kongflow:queue:{queue}"


def message_id(prefix: str, number: int, lanes: Sequence[str]) -> str:
    """Return the id of a message, which says by itself which lane it rings when that is one.

    Whoever pops it need not ask Redis for the rest, and takes it for a message of version 1: one of a later version
    names no lane in its id. Ids sort by number, so that those of equal score keep their order.
    """
    name = f"{prefix}-{number:016d}"
    return f"{name}:{lanes[0]}" if len(lanes) == 1 else name


def write_message(*, queue: str, lanes: Sequence[str], enqueue_time_ms: int) -> bytes:
    """Return the bytes of one message; `enqueue_time_ms` counts from the Unix epoch.

    Raises:
        ValueError: there are no lanes, more than 50, or one whose name is empty or longer than 200 characters.
    """
    if not 1 <= len(lanes) <= MAX_LANES:
        raise ValueError(f"A message names 1 to {MAX_LANES} lanes, not {len(lanes)}.")
    if not all(0 < len(lane) <= MAX_LANE_CHARACTERS for lane in lanes):
        raise ValueError(f"A lane's name has 1 to {MAX_LANE_CHARACTERS} characters.")
    return serialize_job(
        FUNCTION_NAME, (MESSAGE_VERSION, queue, list(lanes)), {}, None, enqueue_time_ms, serializer=_pack
    )


def _pack(job: dict[str, Any]) -> bytes:
    packed: bytes = msgpack.packb(job, use_bin_type=True)
    if len(packed) > MAX_MESSAGE_BYTES:
        raise ValueError(f"A message has at most {MAX_MESSAGE_BYTES} bytes, not {len(packed)}.")
    return packed
