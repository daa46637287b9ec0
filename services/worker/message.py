"""Reads the message that rings the workers: strictly, and never as pickle."""

from __future__ import annotations

from typing import Any, Final

import msgpack

MESSAGE_VERSION: Final = 1
FUNCTION_NAME: Final = "run_queue_jobs"
MAX_LANES: Final = 50
MAX_LANE_CHARACTERS: Final = 200
MAX_MESSAGE_BYTES: Final = 64 * 1024

_KEYS: Final = frozenset({"t", "f", "a", "k", "et"})


class UnreadableMessageError(Exception):
    """The bytes are no message of this program; the text names the rule they break, never what they hold."""


class NewerMessageError(UnreadableMessageError):
    """The message was written by a newer release."""


def queue_key(queue: str) -> str:
    """Return the name of the sorted set in which the messages of `queue` wait."""
    return f"kongflow:queue:{queue}"


def set_aside_key(queue: str) -> str:
    """Return the name of the list that keeps what could not be read from `queue`."""
    return f"kongflow:set-aside:{queue}"


def named_lane(message_id: bytes) -> str | None:
    """Return the lane that a message's id names; None when the message itself has to be read.

    The id says no version: it names a lane in version 1 only, and whoever writes another one gives ids without a colon.
    """
    _, _, name = message_id.partition(b":")
    try:
        lane = name.decode()
    except UnicodeDecodeError:
        return None
    return lane if _is_lane(lane) else None


def read_message(body: bytes) -> dict[str, Any]:
    """Return arq's job dictionary, its arguments checked: message version, queue, lanes.

    Raises:
        NewerMessageError: the version is above 1; the rest is not looked at.
        UnreadableMessageError: anything else is wrong.
    """
    if len(body) > MAX_MESSAGE_BYTES:
        raise UnreadableMessageError(f"It is longer than {MAX_MESSAGE_BYTES} bytes.")
    try:
        # Ext and bin types have no use here: length 0 refuses them. Duplicate keys and trailing bytes are harmless or
        # refused by msgpack itself.
        job = msgpack.unpackb(body, raw=False, strict_map_key=True, max_ext_len=0, max_bin_len=0)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise UnreadableMessageError("It is not msgpack.") from error
    if not isinstance(job, dict) or job.keys() != _KEYS:
        raise UnreadableMessageError("It does not have the keys of a job.")
    if job["f"] != FUNCTION_NAME:
        raise UnreadableMessageError("It names another function.")
    _check_arguments(job["a"])
    if job["k"] != {} or job["t"] is not None or not _is_integer(job["et"]):
        raise UnreadableMessageError("Its times or keywords are not those of a job.")
    return job


def _check_arguments(arguments: object) -> None:
    if not isinstance(arguments, list) or not arguments or not _is_integer(arguments[0]):
        raise UnreadableMessageError("It has no version.")
    if arguments[0] > MESSAGE_VERSION:
        raise NewerMessageError(f"Its version is {arguments[0]}.")
    match arguments:
        case [1, str(), [*lanes]] if 1 <= len(lanes) <= MAX_LANES and all(map(_is_lane, lanes)):
            return
        case _:
            raise UnreadableMessageError("Its arguments are not a version, a queue and lanes.")


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_lane(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_LANE_CHARACTERS
