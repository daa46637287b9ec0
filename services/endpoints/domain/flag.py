"""A flag that is raised for somebody who waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta


class Flag:
    """Is raised by anybody in this process, and taken down by the one who waits for it."""

    def __init__(self) -> None:
        self._raised = asyncio.Event()

    async def wait(self, timeout: timedelta) -> bool:
        """Return True when it is raised, at once if it is, and False after `timeout`; it is down afterwards."""
        try:
            async with asyncio.timeout(timeout.total_seconds()):
                await self._raised.wait()
        except TimeoutError:
            return False
        finally:
            self._raised.clear()
        return True

    def wake(self) -> None:
        """Raise the flag."""
        self._raised.set()
