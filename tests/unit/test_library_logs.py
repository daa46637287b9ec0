"""What a library says through Python's own logging is a line of the service's log, and quotes nobody."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from services.endpoints.telemetry.logs import configure_logs
from services.worker.logging import configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Configure = Callable[..., None]

SECRET = "tr_dev_key"

of_both_services = pytest.mark.parametrize(
    "configure",
    [
        pytest.param(partial(configure_logs, log_format="json"), id="endpoints"),
        pytest.param(configure_logging, id="worker"),
    ],
)


@contextmanager
def root_logger_with(*handlers: logging.Handler) -> Iterator[logging.Logger]:
    """Give the root logger as a new process has it: pytest adds its own handlers for every test."""
    root, structlog_before = logging.getLogger(), structlog.get_config()
    handlers_before, level_before = root.handlers[:], root.level
    root.handlers[:] = handlers
    try:
        yield root
    finally:
        root.handlers[:] = handlers_before
        root.setLevel(level_before)
        structlog.configure(**structlog_before)


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    written = capsys.readouterr().err
    assert SECRET not in written
    return [json.loads(line) for line in written.splitlines()]


@of_both_services
def test_warnings_and_errors_are_lines_of_their_own_without_what_they_quote(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    with root_logger_with():
        configure(level="info")
        library = logging.getLogger("some.library")
        library.info("Hello.")
        library.warning("Something about %s.", SECRET)
        library.error("Something worse:\n%s" % SECRET)  # noqa: UP031 - as libraries write it
        library.log(logging.CRITICAL + 5, "The end.")

    assert [(line["level"], line["event"], line["library"], line["message"]) for line in lines_of(capsys)] == [
        ("warning", "library_logged", "some.library", "Something about %s."),
        ("error", "library_logged", "some.library", "Something worse:"),
        ("critical", "library_logged", "some.library", "The end."),
    ]


@of_both_services
async def test_failure_of_a_task_that_nobody_awaits_is_shown_by_its_type_and_frames(
    configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = asyncio.get_running_loop().create_future()
    failed.set_exception(failure := ValueError(SECRET))
    with root_logger_with():
        configure(level="info")
        asyncio.get_running_loop().default_exception_handler(
            {"message": "Task exception was never retrieved", "exception": failure, "future": failed}
        )
    assert failed.exception() is failure

    (line,) = lines_of(capsys)
    assert (line["library"], line["message"]) == ("asyncio", "Task exception was never retrieved")
    assert [error["exc_type"] for error in line["exception"]] == ["ValueError"]


@of_both_services
def test_level_of_the_log_holds_for_libraries_too(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    with root_logger_with():
        configure(level="error")
        logging.getLogger("some.library").warning("Something.")
        logging.getLogger("some.library").error("Something worse.")

    assert [line["message"] for line in lines_of(capsys)] == ["Something worse."]


@of_both_services
def test_a_process_that_has_a_handler_keeps_it(configure: Configure, capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.NullHandler()
    with root_logger_with(handler) as root:
        configure(level="info")
        logging.getLogger("some.library").warning("Something.")
        assert root.handlers == [handler]

    assert lines_of(capsys) == []
