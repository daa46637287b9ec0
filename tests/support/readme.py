"""The README's commands: its fenced `sh` blocks, with what stands behind `sh` in the fence."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FENCE = re.compile(r"^```sh *(?P<words>[a-z ]*)\n(?P<commands>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """Some commands; `words` say what they need (`grpcurl`, `node`, `docker`) or do (`background`, `fails`)."""

    commands: str
    words: frozenset[str]


def blocks_of(page: Path) -> list[Block]:
    """Return the page's blocks in their order."""
    return [
        Block(commands=match["commands"], words=frozenset(match["words"].split()))
        for match in _FENCE.finditer(page.read_text(encoding="utf-8"))
    ]
