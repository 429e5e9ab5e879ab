"""The page of output.web in a real browser."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from nodes.output.web import WebOutput
from tests import media
from tests.nodes.output.browser import CHROMIUM, Browser
from tests.nodes.output.web_fakes import FakeRun, picture, place, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (apt-get install chromium)"),
]
VIEWS = ("fused", "infrared", "visible")
SIZE = (320, 240)
DESKTOP, PHONE = (1280, 900), (360, 740)
INK = """(() => {
  const canvas = document.querySelector('figure:not([hidden]) canvas');
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext('2d', {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);
  return new Set(copy.getImageData(0, 0, canvas.width, canvas.height).data).size;
})()"""  # how many different values the picture has
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


class Fed:
    """A page with moving pictures, until paused."""

    def __init__(self) -> None:
        self.run = FakeRun()
        self.node = WebOutput(VIEWS, port=0)
        self.node.name, self.node.running = "web", self.run
        self.node.open({})
        self.state, self.paused, self._end, self._number = "fused", False, threading.Event(), 0
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        while not self._end.wait(0.05):
            if not self.paused:
                self.feed()

    def feed(self) -> None:
        self._number += 1
        scene, heat = media.scene(self._number, SIZE), media.heat(self._number, SIZE)
        fused = cv2.addWeighted(scene, 0.6, cv2.cvtColor(heat, cv2.COLOR_GRAY2BGR), 0.4, 0)
        counts = 30_000 + 4 * heat.astype(np.uint16)
        self.node.process(
            fused=picture(self._number, pixel_format="bgr24", data=fused, state=self.state, skew_ms=4.5),
            infrared=picture(self._number, pixel_format="gray16", data=counts),
            visible=picture(self._number, pixel_format="bgr24", data=scene),
        )

    def close(self) -> None:
        self._end.set()
        self._thread.join()
        self.node.close()


@pytest.fixture
def fed() -> Iterator[Fed]:
    page = Fed()
    yield page
    page.close()


Act = Callable[[Browser], Awaitable[None]]
Browse = Callable[[Act], None]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Browser]]:
    """One for all tests, for it takes its time to start; and the event loop that it lives in."""
    with asyncio.Runner() as runner:
        browser = Browser(tmp_path_factory.mktemp("browser") / "profile")
        runner.run(browser.start())
        yield runner, browser
        runner.run(browser.stop())


@pytest.fixture
def browse(fed: Fed, browser: tuple[asyncio.Runner, Browser]) -> Browse:
    """Open the page, do something, and find that the browser had nothing to complain of."""
    runner, window = browser

    async def go(act: Act) -> None:
        assert fed.node.address is not None
        await window.open(fed.node.address, DESKTOP)
        await window.wait_for(f"{text('#badge')} === 'fused'")
        await window.wait_for(f"{INK} > 20")
        await act(window)
        assert window.complaints == []

    return lambda act: runner.run(go(act))


def text(element: str) -> str:
    return f"document.querySelector('{element}').textContent"


def choose(layout: str) -> str:
    return f"document.querySelector('input[value=\"{layout}\"]').click()"


def test_the_page_shows_pictures_state_numbers_and_curves(fed: Fed, browse: Browse, tmp_path: Path) -> None:
    async def act(browser: Browser) -> None:
        await browser.wait_for(f"parseFloat({text('#fps')}) > 1")
        await browser.wait_for(f"/ms$/.test({text('#p99')})")
        assert "infrared no_partner" in await browser.value(text("#drops"))
        assert "thermal" in await browser.value(text("#nodes"))
        await browser.wait_for("/^skew 4.5 ms/.test(document.querySelector('.plot .key').textContent)")
        assert "drift thermal -12.5 ppm" in await browser.value(text("#plots"))
        assert fed.node.gauges() == {"watchers": 1}  # what is not seen is not encoded
        await browser.screenshot(tmp_path / "desktop.png")

    browse(act)
    assert cv2.imread(str(tmp_path / "desktop.png")).std() > 10


def test_layouts_show_one_all_or_two_with_a_divider_to_drag(fed: Fed, browse: Browse) -> None:
    figures = "document.querySelectorAll('#stage figure:not([hidden]) canvas[role=img]').length"
    cut = "Number(document.querySelector('#divider').getAttribute('aria-valuenow'))"

    async def act(browser: Browser) -> None:
        await browser.value(choose("*side"))
        assert await browser.value(figures) == 3
        await asyncio.to_thread(wait_for, lambda: fed.node.gauges() == {"watchers": 3})
        await browser.value(choose("*wipe"))
        assert await browser.value(figures) == 2
        await asyncio.to_thread(wait_for, lambda: fed.node.gauges() == {"watchers": 2})
        box = await browser.value("(({x, y, width, height}) => [x, y, width, height])(stage.getBoundingClientRect())")
        middle = box[1] + box[3] / 2
        await browser.drag((box[0] + box[2] / 2, middle), (box[0] + box[2] / 4, middle))
        assert await browser.value(cut) == 25
        await browser.value("document.querySelector('#divider').focus()")
        for key, share in (("ArrowRight", 27), ("ArrowLeft", 25), ("End", 100), ("Home", 0)):
            await browser.press(key)
            assert await browser.value(cut) == share
        await browser.value(choose("visible"))
        assert await browser.value(figures) == 1
        await asyncio.to_thread(wait_for, lambda: fed.node.gauges() == {"watchers": 1})

    browse(act)


def test_controls_are_built_from_what_may_be_changed_and_obey_the_keyboard(
    fed: Fed, browse: Browse, tmp_path: Path
) -> None:
    async def act(browser: Browser) -> None:
        await browser.wait_for("document.querySelectorAll('#controls .control').length === 5")
        await browser.value("document.querySelector('#controls input[type=range]').focus()")
        await browser.press("ArrowRight")
        await asyncio.to_thread(wait_for, lambda: ("fuse", "blend", 0.55) in fed.run.changes)
        await browser.value("document.querySelector('#controls input[role=switch]').click()")
        await asyncio.to_thread(wait_for, lambda: ("record", "recording", True) in fed.run.changes)
        await browser.value("document.querySelector('#controls button').click()")
        await asyncio.to_thread(wait_for, lambda: ("record", "cut", None) in fed.run.changes)
        unnamed = "[...document.querySelectorAll('#controls input, #controls select')].filter(e => !e.labels.length)"
        assert await browser.value(f"{unnamed}.length") == 0

    browse(act)


def test_a_lost_sensor_a_lost_picture_and_a_lost_server_are_told_in_words(
    fed: Fed, browse: Browse, tmp_path: Path
) -> None:
    async def act(browser: Browser) -> None:
        for state, words in (("held", "held"), ("infrared_only", "infrared only"), ("fused", "fused")):
            fed.state = state
            await browser.wait_for(f"{text('#badge')} === '{words}'")
        fed.paused = True
        await browser.wait_for(f"/no picture for [2-9] s/.test({text('figure .silence')})")
        await browser.wait_for(f"{text('#badge')} === 'no picture'")
        fed.paused = False
        await browser.wait_for("document.querySelector('figure .silence').hidden")
        port = place(fed.node)[1]
        fed.paused = True
        fed.node.close()
        await browser.wait_for(f"{text('#badge')} === 'no connection'")
        assert "trying again" in await browser.value(text("#reason"))
        fed.node.port = port
        fed.node.open({})
        fed.paused = False
        await browser.wait_for(f"{text('#badge')} === 'fused'")
        await browser.wait_for(f"document.querySelector('figure .silence').hidden && {INK} > 20")
        browser.complaints.clear()  # of the server that was gone

    browse(act)


def test_it_fits_a_phone(fed: Fed, browse: Browse, tmp_path: Path) -> None:
    async def act(browser: Browser) -> None:
        await browser.resize(PHONE, phone=True)
        for layout in ("fused", "*side", "*wipe"):
            await browser.value(choose(layout))
            assert not await browser.value(TOO_WIDE), layout
        small = "[...document.querySelectorAll('button, .button, select, .choice span')].filter(e => e.offsetHeight && "
        assert await browser.value(f"{small} e.offsetHeight < 32).length") == 0  # to be hit with a finger
        await browser.wait_for(INK.replace("figure:not([hidden])", "figure.over") + " > 10")
        await browser.screenshot(tmp_path / "phone.png")

    browse(act)
    assert cv2.imread(str(tmp_path / "phone.png")).shape[1] == PHONE[0]
