"""What people are told of an index that does not begin now: until when it waits, why, and what they can do."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cli.failures import INTERRUPTED, CommandError
from cli.output import console, printable, time_text

# What begins within that time is nothing to wait for, and clocks of two machines differ as much.
_SOON: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Asked:
    """An index that was asked for: its endpoint's slug, its id, and the answer with its `run_time`."""

    slug: str
    index_id: str
    response: Any

    @property
    def command_to_force(self) -> str:
        """Return what runs another index at once."""
        return f"kongflow endpoints index {shlex.quote(printable(self.slug))} --force"

    def left(self) -> CommandError:
        """Return the end of a command that somebody interrupted while it waited."""
        show = f"kongflow endpoints show {shlex.quote(printable(self.slug))}"
        return CommandError(
            f"Stopped waiting. Index {self.index_id} goes on without this command: `{show}` says what became of it.",
            exit_code=INTERRUPTED,
            reason="INTERRUPTED",
            metadata={"index_id": self.index_id},
        )


def due_time(response: Any, *, now: datetime) -> str:  # noqa: ANN401 - one of two
    """Return when the index of an answer begins, such as `2026-01-31 08:00:00 UTC`; nothing where that is now.

    A server that does not say when, because it is older, says nothing.
    """
    if not response.HasField("run_time") or response.run_time.ToDatetime(tzinfo=UTC) <= now + _SOON:
        return ""
    return f"{time_text(response, 'run_time')} UTC"


def tell_wait(asked: Asked, due: str, *, as_json: bool) -> None:
    """Say on standard error that the index waits until `due`, why, and what begins at once instead."""
    message = (
        f"The request joined an index that is due at {due}: outside of DEVELOPMENT an endpoint is indexed at most once "
        f"in 15 minutes, or what the server is set to. `{asked.command_to_force}` runs one now."
    )
    if not as_json:
        console(to_errors=True).print(message, markup=False)
        return
    notice = {
        "reason": "INDEX_WAITS",
        "message": message,
        "metadata": {"index_id": asked.index_id, "run_time": asked.response.run_time.ToJsonString()},
    }
    sys.stderr.write(json.dumps({"notice": notice}, ensure_ascii=False) + "\n")
    sys.stderr.flush()
