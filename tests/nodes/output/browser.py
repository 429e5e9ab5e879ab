"""A headless Chromium, driven over its debugging protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import aiohttp

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PATIENCE = 60.0  # seconds, also for a machine that is busy
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--no-first-run", "--disable-extensions", "--disable-background-networking", "--remote-debugging-port=0"),
    "--remote-allow-origins=*",
)


class Browser:
    """One page in a browser of its own, with all that it complains of.

    Args:
        folder: for its profile; a new one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.complaints: list[str] = []
        """Errors and warnings of the console, exceptions, requests that failed."""
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}

    async def start(self) -> None:
        assert CHROMIUM is not None
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={self.folder}", "about:blank"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._session = aiohttp.ClientSession()
        port = await self._port()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            [target] = [one for one in await answer.json() if one["type"] == "page"]
        self._socket = await self._session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0)
        self._listening = asyncio.create_task(self._listen())
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.do(f"{domain}.enable")

    async def stop(self) -> None:
        self._listening.cancel()
        await self._socket.close()
        await self._session.close()
        self._process.terminate()
        self._process.wait(PATIENCE)

    async def do(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command and its result."""
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        result = await asyncio.wait_for(answer, PATIENCE)
        assert "error" not in result, result
        return dict(result["result"])

    async def open(self, address: str, size: tuple[int, int]) -> None:
        """Go there, in a window of (width, height) px."""
        await self.resize(size)
        await self.do("Page.navigate", url="about:blank")
        self.complaints.clear()
        await self.do("Page.navigate", url=address)
        await self.wait_for(f"location.href.startsWith('{address}')")

    async def resize(self, size: tuple[int, int], phone: bool = False) -> None:
        width, height = size
        await self.do(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression comes to."""
        result = await self.do("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def wait_for(self, expression: str) -> None:
        """Until it is true; what it asks of may not be there yet."""
        deadline = time.monotonic() + PATIENCE
        tolerant = f"(() => {{ try {{ return !!({expression}); }} catch {{ return false; }} }})()"
        while not await self.value(tolerant):
            assert time.monotonic() < deadline, f"never true in the page: {expression}"
            await asyncio.sleep(0.05)

    async def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            code = {"ArrowLeft": 37, "ArrowRight": 39, "Home": 36, "End": 35, "Tab": 9, " ": 32}[key]
            await self.do("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    async def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """With the left button of a mouse."""
        for kind, (x, y) in (("mousePressed", start), ("mouseMoved", end), ("mouseReleased", end)):
            await self.do("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    async def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        result = await self.do("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(result["data"]))

    async def _port(self) -> int:
        """That it has chosen."""
        told, deadline = self.folder / "DevToolsActivePort", time.monotonic() + PATIENCE
        while not (told.is_file() and told.read_text().count("\n")):
            assert time.monotonic() < deadline, "Chromium does not start"
            await asyncio.sleep(0.05)
        return int(told.read_text().splitlines()[0])

    async def _listen(self) -> None:
        async for message in self._socket:
            heard = message.json()
            if "id" in heard:
                self._answers.pop(heard["id"]).set_result(heard)
            elif complaint := complaint_of(heard["method"], heard["params"]):
                self.complaints.append(complaint)


def complaint_of(method: str, told: dict[str, Any]) -> str | None:
    if method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
        return f"console: {told['args']}"
    if method == "Runtime.exceptionThrown":
        return f"exception: {told['exceptionDetails']}"
    if method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
        return f"log: {told['entry']['text']} {told['entry'].get('url', '')}"
    return None
