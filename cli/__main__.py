"""Runs the kongflow command: `kongflow`, or `python -m cli`."""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from cli.application import application
from cli.failures import USAGE, CommandError, show_failure

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done. 1: the server refused, or what was asked for failed. 2: the command line or a setting is wrong. 3: the
    server or the database cannot be reached. 130: interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        # Where the output is not Unicode, what it cannot hold is escaped, as on standard error.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        application(given, prog_name="kongflow")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except CommandError as error:
        failure = error
    except UnicodeEncodeError as error:
        # What is no text in the command line or in a variable comes in as lone surrogates, which no request can hold.
        if not error.reason.startswith("surrogates"):
            raise
        failure = CommandError(f"{error.object!r:.200} is not UTF-8 text.", exit_code=USAGE)
    else:
        return 0
    show_failure(failure, as_json="--json" in given)
    return failure.exit_code


if __name__ == "__main__":
    sys.exit(main())
