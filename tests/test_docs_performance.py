"""The page of the performance on a GPU says what was measured, and nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from docs import performance
from tests.cuda.figures import case, figures

MAKEFILE = Path(performance.__file__).parents[1] / "Makefile"


def test_the_page_that_ships_follows_from_the_figures_that_ship() -> None:
    assert performance.PAGE.read_text(encoding="utf-8") == performance.page(performance.read())


def test_before_anything_was_measured_the_page_says_so_and_names_the_one_command() -> None:
    page = performance.page(None)
    assert "Nothing has been measured" in page
    assert "make bench-cuda" in page
    assert not re.search(r"\d", page), "a figure that nobody measured"
    assert "\nbench-cuda:" in MAKEFILE.read_text(encoding="utf-8")


def test_the_page_has_the_conditions_and_a_row_for_each_case() -> None:
    page = performance.page(figures(case(), case("cadnif", (640, 512), frames_per_second=1000.0, bound="flops")))
    for word in (
        "Card Number 5",
        "80 GiB",
        "driver 580.1",
        "abcdef012345",
        "2026-01-02",
        "fp16",
        "3000 GB/s",
        "700 TFLOP/s",
    ):
        assert word in page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == 4
    assert "| `realtime` | 1920x1080 | 1.250 | - | 750.0 | 94% | 2.00 | 2.50 |" in rows
    assert "| `cadnif` | 640x512 | 224 | 8.0 | 0.100 | flops | 8% | 90% | 97% | 1.50 | yes |" in rows


def test_what_is_wanted_is_judged() -> None:
    page = performance.page(figures(case(), case("cadnif", frames_per_second=119.0, device_ms=8.0)))
    assert "- `realtime`: 750 of 600 frames/s: met; p99 2.50 of 3 ms: met; 94% of 90%: met" in page
    assert "- `cadnif`: 119 of 120 frames/s: **missed**; p99 2.50 of 12 ms: met; 95% of 90%: met" in page
    assert "met" not in performance.page(figures(case(size=(640, 512)))).partition("## Use")[0].partition("wanted")[2]


def test_what_failed_and_what_was_not_in_use_is_said_with_its_reason() -> None:
    lame = case(
        "cadnif",
        graph={"captured": False, "why_not": "it would not"},
        kernels={"compiled": False, "why_not": "No module named 'cupy'"},
    )
    small = {"model": "cadnif", "size": [3840, 2160], "error": "CUDA out of memory."}
    page = performance.page(figures(lame, small, driver="", commit=""))
    assert "- `cadnif` 3840x2160: CUDA out of memory." in page
    assert "- `cadnif` 1920x1080: not run as a CUDA graph: it would not" in page
    assert "- kernels of our own were not used: No module named 'cupy'" in page
    assert "driver unknown" in page
    assert "commit unknown" in page


def test_the_commit_can_be_told_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performance, "FIGURES", tmp_path / "performance.json")
    monkeypatch.setattr(performance, "PAGE", tmp_path / "performance.md")
    with pytest.raises(SystemExit, match="make bench-cuda"):
        performance.main(["--commit", "123abc"])
    performance.FIGURES.write_text(json.dumps(figures(case(), commit="")))
    performance.main(["--commit", "123abc"])
    assert "at commit 123abc" in performance.PAGE.read_text()
    assert performance.PAGE.read_text() == performance.page(json.loads(performance.FIGURES.read_text()))
