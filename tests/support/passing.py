"""Time that a fault lasts: the only waiting in the tests that is not for something to happen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta


async def lasting(duration: timedelta) -> None:
    """Return after `duration`."""
    loop = asyncio.get_running_loop()
    end = loop.create_future()
    timer = loop.call_later(duration.total_seconds(), end.set_result, None)
    try:
        await end
    finally:
        timer.cancel()
