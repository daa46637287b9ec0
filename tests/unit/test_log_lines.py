"""What a library says is a line of the service's log and quotes nobody; a line that cannot be written is dropped."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from services import log_lines
from services.endpoints.telemetry.logs import configure_logs
from services.worker.logging import configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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


@of_both_services
@pytest.mark.parametrize("ending", ["disk", "reader", "closed", "none"])
def test_line_that_cannot_be_written_is_dropped(
    configure: Configure, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open("/dev/full" if ending == "disk" else writer, "w", closefd=ending == "disk") as stream:
        monkeypatch.setattr("sys.stderr", None if ending == "none" else stream)
        with root_logger_with():
            configure(level="info")
            if ending == "closed":
                stream.close()
            structlog.get_logger("some.module").warning("something")
            structlog.get_logger().info("something", text="\ud800")
            logging.getLogger("some.library").warning("Something.")
        # Nothing is kept for the end of the process, which would fail by it.
    os.close(writer)


def test_lines_are_written_whole_and_in_order(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        logger = log_lines.line_writer_factory(stream)("some.module")
        logger.info("first")
        logger.error("second \ud800 é")
        assert (tmp_path / "log").read_text(encoding="utf-8") == "first\nsecond \\ud800 é\n"


def test_failure_to_write_what_a_library_says_is_not_raised_inside_the_library(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Failing:
        def log(self, *_: object, **__: object) -> None:
            raise ZeroDivisionError

    with root_logger_with():
        log_lines.forward_library_logs(Failing())
        logging.getLogger("some.library").warning("Something about %s.", SECRET)

    assert capsys.readouterr().err == ""
