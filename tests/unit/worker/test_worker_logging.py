"""What the worker's log shows of an exception."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import structlog

from services.worker.logging import configure_logging

if TYPE_CHECKING:
    import pytest


def test_exception_is_shown_by_types_and_frames_and_never_by_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    configure_logging("info")
    try:
        fail_because_of_another()
    except ValueError as error:
        structlog.get_logger().error("call_crashed", exc_info=error)
    finally:
        structlog.configure(**before)

    line = capsys.readouterr().err
    assert "secret" not in line
    shown = json.loads(line)["exception"]
    assert [error["exc_type"] for error in shown] == ["ValueError", "KeyError"]
    assert shown[0]["frames"][-1]["name"] == "fail_because_of_another"


def fail() -> None:
    raise KeyError("secret")


def fail_because_of_another() -> None:
    try:
        fail()
    except KeyError as cause:
        failure = ValueError("secret")
        failure.add_note("secret")
        raise failure from cause
