"""What libraries log through Python's own logging, as lines of the service's log."""

from __future__ import annotations

import logging
from typing import Final, Protocol

_LEVELS: Final = (logging.CRITICAL, logging.ERROR, logging.WARNING)


class Log(Protocol):
    """Writes a line: a structlog logger does."""

    def log(self, level: int, event: str, /, **fields: object) -> object:
        """Write `event` and `fields`, if `level` is to be shown."""


class _Forwarding(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
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
