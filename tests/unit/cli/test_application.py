from __future__ import annotations

import json
import re
import subprocess
import sys
from io import BytesIO, TextIOWrapper

import pytest
import typer

from cli.__main__ import main
from cli.application import application
from cli.demo_findings import differences
from cli.output import NOTHING, console, print_json
from tests.support.command import ROOT, environment


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


def test_findings_differ_by_what_is_missing_too_much_or_another_number() -> None:
    assert differences({"a": 1, "b": 2}, {"a": 1, "b": 2}) == []
    assert differences({"a": 1, "b": 2}, {"b": 3, "c": 4}) == [
        "a is 1 and must be absent",
        "b is 2 and must be 3",
        "c is absent and must be 4",
    ]
