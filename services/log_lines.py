"""The lines of a service's log: what libraries say is among them, and none is worth ending for."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

_LEVELS: Final = (logging.CRITICAL, logging.ERROR, logging.WARNING)


class LineWriter:
    """Writes lines to a stream, with the methods that structlog wants of a logger.

    A line that the stream refuses, because its disk is full or its reader has gone, is dropped.
    """

    def __init__(self, stream: TextIO | None) -> None:
        """Write to `stream`; a process that was started without one writes nowhere."""
        self._write: Callable[[bytes], object] | None = None
        if stream is not None:
            # Past the buffer, which would keep what was refused: Python fails at its end when that is refused again.
            self._write = getattr(stream.buffer, "raw", stream.buffer).write

    def msg(self, line: str) -> None:
        """Write `line` and its end at once."""
        if self._write is not None:
            with suppress(OSError, ValueError):
                self._write(f"{line}\n".encode(errors="backslashreplace"))

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def line_writer_factory(stream: TextIO | None) -> Callable[..., LineWriter]:
    """Return a `logger_factory` for structlog: all loggers write to `stream`, whatever their names."""
    writer = LineWriter(stream)
    return lambda *_names: writer


class Log(Protocol):
    """Writes a line: a structlog logger does."""

    def log(self, level: int, event: str, /, **fields: object) -> object:
        """Write `event` and `fields`, if `level` is to be shown."""


class _Forwarding(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._forward(record)
        except Exception:  # noqa: BLE001 - whatever it is, it would be raised inside the library that logs
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Drop the record: Python's own way would write what its placeholders stand for."""

    def _forward(self, record: logging.LogRecord) -> None:
        # What follows the first line, and what a placeholder stands for, may quote what a caller or an endpoint sent.
        fields: dict[str, object] = {"library": record.name, "message": str(record.msg).partition("\n")[0]}
        if record.exc_info is not None and record.exc_info[0] is not None:
            fields["exc_info"] = record.exc_info
        self._log.log(next(level for level in _LEVELS if level <= record.levelno), "library_logged", **fields)


def forward_library_logs(log: Log) -> None:
    """Write every warning and error of a library as `library_logged`, with its logger's name and its bare message.

    A process whose root logger has a handler keeps that one.
    """
    logging.basicConfig(level=logging.WARNING, handlers=[_Forwarding(log)])
