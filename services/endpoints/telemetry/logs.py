"""Log lines: structured, to standard error, without secrets or payloads."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from services.endpoints.telemetry.tracebacks import describe_exception, write_exception
from services.log_lines import forward_library_logs, line_writer_factory


def configure_logs(*, level: str, log_format: str) -> None:
    """Write lines of `level` and above, as `console` text or one `json` object each, libraries' warnings among them.

    Of an exception neither the frames' locals nor a foreign text is shown: they may hold keys and payloads.
    """
    is_terminal = sys.stderr is not None and sys.stderr.isatty()
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=is_terminal, exception_formatter=write_exception)
        if log_format == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(describe_exception)
            if log_format == "json"
            else structlog.processors.UnicodeDecoder(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=line_writer_factory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    forward_library_logs(structlog.get_logger())
