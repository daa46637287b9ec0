"""Sets up the process's log: one JSON object a line on standard error."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final

import structlog

from services.log_lines import forward_library_logs, line_writer_factory

if TYPE_CHECKING:
    from structlog.typing import ExcInfo


# Frames hold tokens: their locals are never shown.
_TRACEBACKS: Final = structlog.tracebacks.ExceptionDictTransformer(show_locals=False, use_rich=False)


def _describe(exc_info: ExcInfo) -> list[dict[str, Any]]:
    """Return an exception and what led to it by types and frames; a text may quote what Redis or a server sent."""
    described = _TRACEBACKS(exc_info)
    for error in described:
        error["exc_value"] = error["exc_type"]
        error["exc_notes"] = []
    return described


def configure_logging(level: str) -> None:
    """Log what is at least as serious as `level` (`debug`, `info`, `warning`, `error`), libraries' warnings too."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(_describe),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=line_writer_factory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    forward_library_logs(structlog.get_logger())
