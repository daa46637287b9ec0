"""Becomes a server process: drops privileges, ties its life to its parent, then executes the server's binary.

Runs as a script of its own in a fresh interpreter, so that nothing happens between fork and exec of a process that has
threads. It imports the standard library only, because it runs without site-packages.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import NoReturn

PR_SET_PDEATHSIG = 1


def launch(arguments: list[str]) -> NoReturn:
    """Execute the binary named in `arguments` in place of this process.

    `arguments` are: the parent's process id; the signal the kernel sends when the parent dies; the user and the group
    id to become, or two empty strings to stay who we are; then the binary's path and its own arguments. Outside Linux
    the signal is not sent: a PostgreSQL that outlives its parent is stopped by the next start in the same directory.

    Source: prctl(2), PR_SET_PDEATHSIG: cleared by a change of credentials, so it is set after it.
    """
    parent, death_signal, user, group, *command = arguments
    if user:
        os.setgroups([])
        os.setgid(int(group))
        os.setuid(int(user))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("The process that starts this server has ended.")
    os.chdir("/")
    os.execv(command[0], command)  # noqa: S606 - a list of arguments, no shell


if __name__ == "__main__":
    launch(sys.argv[1:])
