"""Every named SQL block: PostgreSQL accepts it against the migrated schema, and something uses it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from services.endpoints.store.queries import load

if TYPE_CHECKING:
    import asyncpg

STORE = Path("services/endpoints/store")
NOUNS = sorted(path.stem for path in (STORE / "sql").glob("*.sql"))
BLOCKS = [(noun, name) for noun in NOUNS for name in load(noun)]


async def test_every_block_is_accepted_and_its_types_are_known(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    for noun, name in BLOCKS:
        statement = await connection.prepare(load(noun)[name])
        types = [parameter.name for parameter in statement.get_parameters()]
        types += [attribute.type.name for attribute in statement.get_attributes()]
        assert "unknown" not in types, f"{noun}.{name}"


@pytest.mark.parametrize("noun", NOUNS)
def test_every_block_is_used_and_described_by_one_sentence(noun: str) -> None:
    modules = [path.read_text(encoding="utf-8") for path in STORE.glob("*.py")]
    used = {name for code in modules if f'load("{noun}")' in code for name in re.findall(r'"(\w+)"', code)}

    assert set(load(noun)) <= used
    for block in load(noun).values():
        assert re.match(r"-- [A-Z].*[.:;]\n", block)
        assert not re.search(r"SELECT \*|\b\w+\.\*", block)


def test_states_of_queue_jobs_are_literals_but_in_a_callers_filter() -> None:
    blocks = {**load("ledger"), **load("queue_control")}

    from_outside = re.compile(r"\bstate(\) [<>=]+ \([^()]*, | (=|IN|<>) *\(?)\$")
    found = {name for name, block in blocks.items() if from_outside.search(block)}
    assert found == {"matching"}
