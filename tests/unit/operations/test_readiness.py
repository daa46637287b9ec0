"""Many who ask at once whether a server is ready cost its database one look."""

from __future__ import annotations

import asyncio

from services.endpoints.operations.readiness import Readiness
from tests.support.eventually import eventually


class SlowDatabase:
    def __init__(self) -> None:
        self.looks = 0
        self.answers = asyncio.Event()

    async def why_not_serving(self) -> str | None:
        self.looks += 1
        await self.answers.wait()
        return "The database takes no changes."


class NoHealth:
    async def set_serving(self, *, is_serving: bool = True) -> None:
        raise AssertionError(is_serving)


async def test_those_who_ask_at_once_share_a_look() -> None:
    database = SlowDatabase()
    readiness = Readiness(database=database, health=NoHealth(), finding=lambda: None)
    asked = [asyncio.create_task(readiness.why_not()) for _ in range(50)]
    await eventually(lambda: database.looks)
    database.answers.set()

    assert set(await asyncio.gather(*asked)) == {"The database takes no changes."}
    assert database.looks <= 2
    await readiness.why_not()
    assert database.looks <= 3
