"""A headless Chromium, driven over its own debugging protocol: nothing is downloaded, nothing is installed.

Source: Chrome DevTools Protocol.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
import tempfile
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.support.eventually import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
_FLAGS = (
    "--headless=new",
    "--remote-debugging-port=0",
    "--no-first-run",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--no-sandbox",  # tests may run as root, which Chromium's sandbox refuses; it only sees pages of our own
)
_STARTS_WITHIN = timedelta(seconds=30)
_SHOWS_WITHIN = timedelta(seconds=15)


def find_chromium() -> str | None:
    """Return the path of a Chromium on this machine; None when there is none."""
    return next((found for name in _NAMES if (found := shutil.which(name))), None)


@dataclass
class Browser:
    """One tab; `complaints` are what it logged: refused scripts and styles, failed loads, exceptions."""

    socket: aiohttp.ClientWebSocketResponse
    complaints: list[str] = field(default_factory=list)
    numbers: itertools.count[int] = field(default_factory=lambda: itertools.count(1))
    answers: dict[int, asyncio.Future[Any]] = field(default_factory=dict)

    async def listen(self) -> None:
        async for message in self.socket:
            told = json.loads(message.data)
            if "id" in told:
                self.answers.pop(told["id"]).set_result(told)
            elif told["method"] in {"Log.entryAdded", "Runtime.exceptionThrown", "Audits.issueAdded"}:
                self.complaints.append(json.dumps(told["params"]))

    async def send(self, method: str, **parameters: Any) -> Any:
        number = next(self.numbers)
        self.answers[number] = asyncio.get_running_loop().create_future()
        await self.socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(asyncio.shield(self.answers[number]), _SHOWS_WITHIN.total_seconds())
        assert "error" not in answer, answer
        return answer["result"]

    async def evaluate(self, expression: str) -> Any:
        answer = await self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    async def open(self, url: str) -> None:
        await self.send("Page.navigate", url=url)
        await self.sees(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    async def sees(self, expression: str, *, within: timedelta = _SHOWS_WITHIN) -> None:
        """Return once `expression` holds in the page; while a page is being replaced nothing does."""

        async def holds() -> bool:
            return bool(await self.evaluate(expression))

        await eventually(holds, within=within)

    async def type(self, text: str) -> None:
        """Type into what has the focus."""
        await self.send("Input.insertText", text=text)

    async def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key, such as `press("Enter", 13, "\\r")`."""
        named = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **named)
        await self.send("Input.dispatchKeyEvent", type="keyUp", **named)

    async def look(self, *, width: int, height: int, is_dark: bool = False) -> None:
        """Give the page this size and this preference of colours."""
        await self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def screenshot(self, path: Path) -> None:
        answer = await self.send("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(answer["data"]))


@asynccontextmanager
async def running_chromium(program: str) -> AsyncIterator[Browser]:
    """Run a browser with a profile that vanishes with it."""
    profile = Path(tempfile.mkdtemp(prefix="kongflow-chromium-"))
    process = await asyncio.create_subprocess_exec(
        program,
        *_FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
        start_new_session=True,
    )
    try:
        port_file = profile / "DevToolsActivePort"

        def port() -> str | None:
            text = port_file.read_text() if port_file.exists() else ""
            found = re.match(r"(\d+)\n/", text)
            return found.group(1) if found else None

        address = f"http://127.0.0.1:{await eventually(port, within=_STARTS_WITHIN)}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{address}/json/list") as response:
                (tab,) = [tab for tab in await response.json() if tab["type"] == "page"]
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                browser = Browser(socket)
                listening = asyncio.create_task(browser.listen())
                for domain in ("Page", "Runtime", "Log", "Audits"):
                    await browser.send(f"{domain}.enable")
                yield browser
                await browser.send("Browser.close")
                await listening
    finally:
        if process.returncode is None:
            try:
                await asyncio.wait_for(process.wait(), 10)
            except TimeoutError:
                process.kill()
                await process.wait()
        shutil.rmtree(profile, ignore_errors=True)
