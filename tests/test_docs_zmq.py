"""The figures of frames over ZeroMQ: the program measures all of them, and the page has those that ship."""

from __future__ import annotations

import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest

from docs import zmq_ends, zmq_page
from docs import zmq_figures as command
from docs.zmq_links import Route

SIZE = (64, 48)
EMPTY = "# ZeroMQ\n<!-- figures -->\n<!-- /figures -->\nend\n"


@pytest.fixture(autouse=True)
def ends_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """To start a process takes longer than all that these tests measure."""

    def start(target: Any, *given: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=given)
        thread.start()
        return thread

    monkeypatch.setattr(command, "start", start)
    monkeypatch.setattr(command, "SLOW_S", 0.01)
    monkeypatch.setattr(command, "WARM_TURNS", 1)


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page and figures of this test's own."""
    monkeypatch.setattr(command, "FIGURES", tmp_path / "figures.json")
    monkeypatch.setattr(command, "PAGE", tmp_path / "zmq.md")
    command.PAGE.write_text(EMPTY)
    return command.PAGE


@pytest.mark.slow
def test_all_is_measured_and_the_page_follows_from_the_figures_alone(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command.main(["--seconds", "0.1", "--size", "64x48"])
    figures = json.loads(command.FIGURES.read_text(), parse_constant=pytest.fail)
    assert figures["size"] == [64, 48]
    assert figures["freshness"].keys() == {"alone", "ours", "bare"}
    assert figures["freshness"]["ours"]["readers"].keys() == {"slow", "slow, plain SUB", "fast"}
    assert figures["hop"].keys() == {"tcp", "ipc", "tcp, CURVE"}
    assert len(figures["throughput"]) == 4
    assert figures["pipeline"].keys() == {"tcp", "ipc"}
    assert all(number > 0 for number in numbers({**figures, "conditions": {}}))
    written = page.read_text()
    assert written in (capsys.readouterr().out, EMPTY.replace("-->\n<!--", f"-->\n{tables_in(written)}<!--"))
    page.write_text(EMPTY)
    command.main(["--from-json"])
    assert page.read_text() == written


def tables_in(page: str) -> str:
    return page.partition("<!-- figures -->\n")[2].partition("<!-- /figures -->")[0]


def numbers(figures: Any) -> list[float]:
    """All numbers in figures."""
    if isinstance(figures, dict):
        figures = list(figures.values())
    return [number for each in figures for number in numbers(each)] if isinstance(figures, list) else [figures]


def test_ratios_are_ours_by_the_bare_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def turns(*_: Any) -> None:
        pass

    def ages(link: Any, _: Any, routes: list[Route], turns: int) -> None:
        link.send([[9.0] + [2.0 if route.kind == "ours" else 1.6] * (turns - 1) for route in routes])

    monkeypatch.setattr(zmq_ends, "send_in_turns", turns)
    monkeypatch.setattr(zmq_ends, "receive_in_turns", ages)
    found = command.hops(SIZE, 3, tmp_path, "ipc://")
    assert [row["ratio"] for row in found.values()] == [1.25] * 3
    assert found["tcp"]["ours"] == {"hop_p50_ms": 2.0, "hop_p99_ms": 2.0}  # without the first, which warms up


def test_an_end_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(link: Any) -> None:
        link.close()

    with pytest.raises(ValueError, match="fails has failed, or is stuck"):
        command.End(fails).answer()


def test_figures_that_are_not_there_are_asked_for(page: Path) -> None:
    with pytest.raises(SystemExit, match="there is none yet; measure first"):
        command.main(["--from-json"])


def test_a_page_without_a_place_for_the_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="one place for the tables"):
        zmq_page.fill("# ZeroMQ\n", {})


def test_the_program_does_not_hide_the_package_from_examples_beside_it() -> None:
    assert not Path(command.__file__).with_name("zmq.py").exists()


def test_the_page_that_ships_has_the_figures_that_ship() -> None:
    page, figures = command.PAGE.read_text(encoding="utf-8"), json.loads(command.FIGURES.read_text(encoding="utf-8"))
    assert page == zmq_page.fill(page, figures), "run `python docs/zmq_figures.py --from-json`"


def test_the_figures_that_ship_are_of_full_hd_and_of_a_whole_run() -> None:
    figures = json.loads(command.FIGURES.read_text(encoding="utf-8"))
    assert (figures["size"], figures["rate"]) == ([1920, 1080], 30.0)
    assert re.search(r"\d", figures["conditions"]["libzmq"])
