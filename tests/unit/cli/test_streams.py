"""What becomes of a command, or a service, whose output or log cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import ROOT, environment

FULL = Path("/dev/full")
needs_a_full_disk = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
in_words_and_json = pytest.mark.parametrize("arguments", [["--help"], ["config", "check", "--json"]], ids=" ".join)


def run(module: str, *arguments: str, closing: str = "", **streams: Any) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, without the stream that `closing` names as a shell does, such as `2>&-`."""
    given: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
    command = ["/bin/sh", "-c", f'exec "$@" {closing}', "sh", sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), text=True, check=False, **given)


@needs_a_full_disk
@in_words_and_json
def test_output_on_a_full_disk_is_one_sentence(arguments: list[str]) -> None:
    with FULL.open("w") as full:
        ended = run("cli", *arguments, stdout=full)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "The output cannot be written: no space left on device." in line


@in_words_and_json
def test_reader_who_has_gone_ends_a_command_without_a_word(arguments: list[str]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    try:
        ended = run("cli", *arguments, stdout=writes)
    finally:
        os.close(writes)
    assert (ended.returncode, ended.stderr) == (141, "")


@in_words_and_json
def test_process_without_an_output_says_so(arguments: list[str]) -> None:
    ended = run("cli", *arguments, closing="1>&-")
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert "The output cannot be written: it is closed." in line


@needs_a_full_disk
@pytest.mark.parametrize(
    ("module", "arguments", "exit_code"),
    [
        ("cli", ["--help"], 0),
        ("cli", ["nonsense"], 2),
        ("cli", ["tokens", "list", "--server", "127.0.0.1:1"], 2),
        ("services.endpoints", [], 2),
        ("services.worker", [], 2),
    ],
)
def test_errors_that_nobody_can_read_leave_the_exit_code(module: str, arguments: list[str], exit_code: int) -> None:
    with FULL.open("w") as full:
        assert run(module, *arguments, stderr=full).returncode == exit_code
    assert run(module, *arguments, closing="2>&-").returncode == exit_code
