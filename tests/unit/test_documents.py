"""What the documents promise: a section for each reason, and links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from kongflow.v1.error_reason_pb2 import ErrorReason

from services.endpoints.domain.errors import Reason
from services.endpoints.rpc.errors import STATUS_CODES

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = sorted(
    path
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("clients/**/*.md"))
    if "node_modules" not in path.parts
)
LINK: Final = re.compile(r"\]\(([^()\s]+)\)")


def sections() -> dict[str, str]:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_reason_has_a_cause_and_a_remedy() -> None:
    names = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118 - no mapping
    found = sections()
    assert found.keys() == names - {"UNSPECIFIED"}
    assert [name for name, text in found.items() if "\nRemedy: " not in text] == []


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_described_with_its_status(reason: Reason) -> None:
    described = sections()[reason.value].partition("**")[2].partition("**")[0]
    assert STATUS_CODES[reason].name in described


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    broken = []
    for target in LINK.findall(path.read_text(encoding="utf-8")):
        if re.match(r"https?:|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []
