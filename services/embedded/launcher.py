"""Becomes a server process: drops privileges, ties its life to its parent, then executes the server's binary.

Runs as a script of its own in a fresh interpreter, so that nothing happens between fork and exec of a process that has
threads. It imports the standard library only, because it runs without site-packages.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from typing import NoReturn

PR_SET_PDEATHSIG = 1


def launch(arguments: list[str]) -> NoReturn:
    """Execute the binary named in `arguments` in place of this process.

    `arguments` are: the parent's process id; the signal the kernel sends when the parent dies; the user and the group
    id to become, or two empty strings to stay who we are; `batch` for a server that interrupts no other process when
    it is woken, or an empty string; then the binary's path and its own arguments. Outside Linux the signal is not sent,
    and a PostgreSQL that outlives its parent is stopped by the next start in the same directory; nor is there `batch`.

    Source: prctl(2), PR_SET_PDEATHSIG: cleared by a change of credentials, so it is set last; sched(7), SCHED_BATCH.
    """
    parent, death_signal, user, group, scheduling, *command = arguments
    if user:
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("The process that starts this server has ended.")
        if scheduling == "batch":
            # A container may refuse it; the server then works as well, only slower.
            with suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.chdir("/")
    os.execv(command[0], command)  # noqa: S606 - a list of arguments, no shell


if __name__ == "__main__":
    launch(sys.argv[1:])
