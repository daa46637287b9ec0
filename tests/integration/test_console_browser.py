"""The console in a real browser: somebody signs in, watches, and retries a dead letter with the keyboard.

With `KONGFLOW_SCREENSHOTS` naming a directory, the pages are photographed there.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.chromium import find_chromium, running_chromium
from tests.support.console import exhibition
from tests.support.fake_endpoint import on, status

if TYPE_CHECKING:
    from tests.support.chromium import Browser
    from tests.support.pair import Pair

_ENTER = ("Enter", 13, "\r")
_TAB = ("Tab", 9)
# A chart renews itself every two seconds; a photograph is of a longer line.
_POINTS = 3
_POINTS_PHOTOGRAPHED = 25


async def photograph(browser: Browser, name: str) -> None:
    if directory := os.environ.get("KONGFLOW_SCREENSHOTS"):
        await browser.screenshot(Path(directory) / f"{name}.png")


async def sign_in(browser: Browser, http_url: str, credential: str) -> None:
    await browser.open(f"{http_url}/console/sign-in")
    await browser.sees("document.activeElement.name === 'credential'")
    await photograph(browser, "sign-in")
    await browser.type(credential)
    await browser.press(*_ENTER)
    await browser.sees("document.title === 'Environments · KongFlow'")


async def test_operator_signs_in_watches_and_retries_a_dead_letter(pair: Pair) -> None:
    program = find_chromium()
    if program is None:
        pytest.skip("there is no Chromium on the PATH (Debian: the package chromium)")
    async with exhibition(pair) as shown, running_chromium(program) as browser:
        await browser.look(width=1200, height=720)
        await sign_in(browser, pair.http_url, shown.tenant.service_token)

        await browser.open(f"{pair.http_url}/console/dead-letters")
        await browser.sees("document.querySelector('#live').innerText.includes('There are none.')")
        dead = await shown.dead_letter(on("INDEX_ENDPOINT", status(500)))
        await browser.sees(f"document.getElementById('retry-{dead}') !== null")
        await photograph(browser, "dead-letters")

        await browser.evaluate(f"document.getElementById('retry-{dead}').focus()")
        await browser.press(*_ENTER)
        await browser.sees(
            "(document.querySelector('[role=status]') || {}).innerText === 'It was retried, and is due now.'"
        )
        await browser.sees("document.querySelector('.state').innerText === 'completed'")

        await shown.dead_letter(on("INDEX_ENDPOINT", status(500)))
        await browser.open(f"{pair.http_url}/console/dead-letters?kind=indexEndpoint")
        await browser.evaluate("document.getElementById('retry-all').focus()")
        await browser.press(*_ENTER)
        await browser.sees("document.title.startsWith('Retry dead letters')")
        await browser.evaluate("document.querySelector('main form button').focus()")
        await browser.press(*_ENTER)
        await browser.sees("document.querySelector('[role=status]').innerText.startsWith('1 was retried')")

        await browser.look(width=1200, height=980)
        await browser.open(f"{pair.http_url}/console/queues")
        await browser.evaluate("document.querySelector('main form [name=lane]').focus()")
        await browser.type(f"endpoint-{shown.endpoint_id}")
        await browser.press(*_TAB)
        await browser.type("The app is being moved.")
        await browser.press(*_ENTER)
        await browser.sees("document.querySelector('#live').innerText.includes('The app is being moved.')")
        points = _POINTS_PHOTOGRAPHED if "KONGFLOW_SCREENSHOTS" in os.environ else _POINTS
        drawn = f"document.querySelector('polyline').getAttribute('points').split(' ').length >= {points}"
        await browser.sees(drawn, within=timedelta(minutes=2))
        await photograph(browser, "queues")
        await browser.evaluate("document.querySelector('[id^=resume-]').focus()")
        await browser.press(*_ENTER)
        await browser.sees("!document.querySelector('#live').innerText.includes('The app is being moved.')")
        await browser.look(width=1200, height=720)
        await browser.open(f"{pair.http_url}/console/indexes/{shown.index_id}")
        await photograph(browser, "index")
        await browser.look(width=1200, height=900, is_dark=True)
        await browser.open(f"{pair.http_url}/console/events/{shown.event_record_id}")
        await photograph(browser, "event")

        await browser.press(*_TAB)
        await browser.sees("document.activeElement.className === 'skip'")
        assert await browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 21, 27)"
        await browser.look(width=360, height=640)
        assert await browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), "a phone scrolls sideways"
        assert browser.complaints == []
