"""Runs the kongflow command: `kongflow`, or `python -m cli`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from typer.exceptions import Abort, TyperException

from cli.application import application
from cli.failures import USAGE, CommandError, show_failure
from cli.streams import READER_GONE, guarded_streams

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0: done. 1: the server refused, or what was asked for failed. 2: the command line or a setting is wrong. 3: the
    server or the database cannot be reached. 130: interrupted. 141: whoever
    read the output has gone.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with guarded_streams():
        try:
            exit_code = _run(given)
            sys.stdout.flush()
        except CommandError as error:
            failure = error
        except UnicodeEncodeError as error:
            # What is no text in the command line or in a variable comes in as lone surrogates, which no request can
            # hold.
            if not error.reason.startswith("surrogates"):
                raise
            failure = CommandError(f"{error.object!r:.200} is not UTF-8 text.", exit_code=USAGE)
        else:
            return exit_code
        # Who left the other end of a pipe has seen enough.
        if failure.exit_code != READER_GONE:
            show_failure(failure, as_json="--json" in given)
        return failure.exit_code


def _run(given: list[str]) -> int:
    if "--json" in given:
        return _run_for_a_program(given)
    try:
        application(given, prog_name="kongflow")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _run_for_a_program(given: list[str]) -> int:
    """Run one command as `application` does it for people, but with a mistake in the command line as any other error.

    Raises:
        CommandError: the command line is wrong, or the command failed.
    """
    try:
        ended = application(given, prog_name="kongflow", standalone_mode=False)
    except TyperException as error:
        raise CommandError(error.format_message(), exit_code=USAGE, reason="USAGE") from error
    except Abort as error:
        raise CommandError("Aborted.") from error
    return ended if isinstance(ended, int) else 0


if __name__ == "__main__":
    sys.exit(main())
