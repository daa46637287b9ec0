"""The standard streams of a command: told apart from every other file when they cannot be written."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import contextmanager, suppress
from io import StringIO, TextIOWrapper
from typing import TYPE_CHECKING, Any, Final

from cli.failures import REFUSED, CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

READER_GONE: Final = 141
"""The exit code of a command whose reader has gone: what a shell says of a program that SIGPIPE ended."""


class OutputError(CommandError):
    """Ends a command whose output cannot be written; it has nothing to say where the reader has just gone."""

    def __init__(self, number: int | None) -> None:
        why = os.strerror(number).lower() if number else "it is closed"
        code = READER_GONE if number == errno.EPIPE else REFUSED
        super().__init__(f"The output cannot be written: {why}.", exit_code=code, reason="OUTPUT")


@contextmanager
def guarded_streams() -> Iterator[None]:
    """Have writes to standard output that fail raise `OutputError`, and drop what standard error does not take.

    Where the output is not Unicode, what it cannot hold is escaped, as on standard error.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _output(sys.stdout), _errors(sys.stderr)
    guarded = sys.stdout, sys.stderr
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in guarded:
            if isinstance(stream, _Output | _Errors):
                _leave(stream)


class _Output(TextIOWrapper):
    def write(self, text: str, /) -> int:
        with _told():
            return super().write(text)

    def flush(self) -> None:
        with _told():
            super().flush()


class _Errors(TextIOWrapper):
    def write(self, text: str, /) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


class _ClosedOutput(StringIO):
    """Stands in for the standard output of a process that was started without one."""

    def write(self, _text: str, /) -> int:
        raise OutputError(None)


def _output(stream: TextIO | None) -> TextIO:
    """Return what stands in for standard output; a stream that is no process's own stays."""
    if stream is None:
        return _ClosedOutput()
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    if type(stream) is not TextIOWrapper:
        return stream
    return _Output(stream.buffer, **_like(stream))


def _errors(stream: TextIO | None) -> TextIO:
    """Return what stands in for standard error; a stream that is no process's own stays."""
    if stream is None:
        return StringIO()
    return _Errors(stream.buffer, **_like(stream)) if type(stream) is TextIOWrapper else stream


def _like(stream: TextIOWrapper) -> dict[str, Any]:
    return {
        "encoding": stream.encoding,
        "errors": stream.errors,
        "line_buffering": stream.line_buffering,
        "write_through": stream.write_through,
    }


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(error.errno) from error


def _leave(stream: TextIOWrapper) -> None:
    """Let go of the stream beneath, and have it keep nothing that Python would try to write again when it ends."""
    try:
        TextIOWrapper.flush(stream)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        TextIOWrapper.flush(stream)
    stream.detach()
