from __future__ import annotations

import json
import re
import subprocess
import sys
from hashlib import sha256
from io import BytesIO, TextIOWrapper
from typing import TYPE_CHECKING

import pytest
import typer

from cli.__main__ import main
from cli.application import application
from cli.demo_findings import differences
from cli.failures import CommandError
from cli.output import NOTHING, console, print_json
from cli.stack import run_until_stopped
from services.embedded.process import EmbeddedServerError, ServerAwayError
from tests.support.command import ROOT, environment

if TYPE_CHECKING:
    from pathlib import Path


def commands() -> list[list[str]]:
    """Return every command as it is typed."""
    found = []
    for name, command in typer.main.get_group(application).commands.items():
        nested: dict[str, object] = getattr(command, "commands", {})
        found += [[name, each] for each in nested] or [[name]]
    return found


@pytest.mark.parametrize("arguments", [["--help"], *([*command, "--help"] for command in commands())], ids=" ".join)
def test_every_command_explains_itself(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert "Usage: kongflow" in capsys.readouterr().out


def test_the_readme_lists_every_command() -> None:
    listed = []
    for row in re.findall(r"^\| (`kongflow .*?) \|", (ROOT / "README.md").read_text(), flags=re.MULTILINE):
        words = [part.split("[")[0].split() for part in re.findall(r"`(.*?)`", row)]
        first = words[0][1:]
        listed += [first, *(rest[1:] if rest[0] == "kongflow" else [first[0], rest[0]] for rest in words[1:])]
    assert sorted(listed) == sorted(commands())


@pytest.mark.parametrize("arguments", [["nonsense"], ["endpoints", "create", "x"], ["queue", "jobs", "--limit", "0"]])
def test_wrong_command_line_ends_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert "Usage: kongflow" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nonsense"], "No such command 'nonsense'."),
        (["endpoints", "create", "x"], "Missing argument 'url'."),
        (["queue", "jobs", "--limit", "0"], "Invalid value for '--limit'"),
    ],
)
def test_wrong_command_line_is_told_to_a_program_as_json(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--json"]) == 2
    out, err = capsys.readouterr()
    error = json.loads(err)["error"]
    assert (out, error["reason"]) == ("", "USAGE")
    assert error["message"].startswith(told)


def test_help_is_help_for_a_program_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["endpoints", "create", "--help", "--json"]) == 0
    assert "Usage: kongflow" in capsys.readouterr().out


def test_failure_keeps_its_exit_code_for_a_program(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KONGFLOW_LEASE_SECONDS", "0")
    assert main(["config", "check", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ok"] is False


@pytest.mark.parametrize(
    "arguments",
    [["endpoints", "show", "caf\udce9"], ["events", "send", "x", "--id", "caf\udce9"], ["queue", "show", "caf\udce9"]],
    ids=["slug", "option", "id"],
)
def test_argument_that_is_no_text_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--server", "127.0.0.1:1", "--token", "any"]) == 2
    assert capsys.readouterr().err == "'caf\\udce9' is not UTF-8 text.\n"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_output_that_is_not_unicode_takes_whatever_is_said(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(written, encoding=encoding))
    assert main(["--help"]) == 0
    begins_at = len(written.getvalue())
    console().print(f"It is {NOTHING}.", markup=False)
    print_json({"slug": "\u4e16"}, in_one_line=True)
    said, document = written.getvalue()[begins_at:].decode(encoding).splitlines()
    assert said == "It is \\u2013."
    assert json.loads(document) == {"slug": "\u4e16"}


def test_starting_the_command_loads_neither_grpc_nor_the_services() -> None:
    look = (
        "import sys, cli.application; "
        "print([name for name in sys.modules if name.split('.')[0] in {'grpc', 'kongflow', 'services', 'asyncpg'}])"
    )
    result = subprocess.run(
        [sys.executable, "-c", look], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("command", "variable"), [("serve", "KONGFLOW_DATABASE_URL"), ("work", "KONGFLOW_WORKER_TOKEN")]
)
def test_service_without_its_settings_names_them_and_ends_with_two(
    command: str, variable: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("KONGFLOW_DATABASE_URL", "KONGFLOW_WORKER_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert main([command]) == 2
    assert variable in capsys.readouterr().err


@pytest.mark.parametrize("url", ["nonsense", "mysql://u:hidden@h/x", "postgresql://u:hidden@h:nope/x"])
@pytest.mark.parametrize("command", [["serve"], ["up"], ["migrate", "status"], ["migrate", "up"]], ids=" ".join)
def test_address_of_the_database_that_cannot_be_read_ends_with_two(
    command: list[str],
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("KONGFLOW_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("KONGFLOW_DATABASE_URL", url)
    monkeypatch.setenv("KONGFLOW_SECRET_KEYS", sha256(b"keys").hexdigest())
    monkeypatch.setenv("KONGFLOW_LOOKUP_PEPPER", sha256(b"pepper").hexdigest())
    assert main(command) == 2
    told = capsys.readouterr().err
    assert "KONGFLOW_DATABASE_URL: " in told
    assert "hidden" not in told


def test_kept_address_of_the_database_that_cannot_be_read_is_named_by_its_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("KONGFLOW_DATABASE_URL", raising=False)
    monkeypatch.setenv("KONGFLOW_DIRECTORY", str(tmp_path))
    (tmp_path / "database-url").write_text("nonsense")
    assert main(["migrate", "status"]) == 2
    assert capsys.readouterr().err == f"{tmp_path / 'database-url'}: must begin with postgresql:// [SETTINGS]\n"


@pytest.mark.parametrize(("error", "exit_code"), [(ServerAwayError("Away."), 3), (EmbeddedServerError("Broken."), 1)])
def test_stack_without_its_database_ends_with_three(error: EmbeddedServerError, exit_code: int) -> None:
    async def fail() -> None:
        raise error

    with pytest.raises(CommandError, match=str(error)) as raised:
        run_until_stopped(fail())
    assert raised.value.exit_code == exit_code


def test_findings_differ_by_what_is_missing_too_much_or_another_number() -> None:
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 2}) == []
    assert differences({"a": 1, "b": 2}, {"b": 3, "c": 4}) == [
        "a is 1 and must be absent",
        "b is 2 and must be 3",
        "c is absent and must be 4",
    ]
