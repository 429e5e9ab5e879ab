"""The page of the models says what was measured, and of the weights that are there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from docs import models as page
from models import catalog, listing
from models.realtime import Realtime
from tests import media

OPTIONS = {"channels": 8, "blocks": 1}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two data sets, two untrained weights, and files of its own for the results."""
    weights = tmp_path / "weights"
    monkeypatch.setattr("models.catalog.WEIGHTS", weights)
    monkeypatch.setattr(page, "FIGURES", weights / "figures.json")
    monkeypatch.setattr(page, "PAGE", tmp_path / "models.md")
    monkeypatch.setattr(page, "FRAMES", 1)
    monkeypatch.setattr(listing, "SIZE", media.SIZE)
    for task in ("infrared", "medical"):
        catalog.save(weights / f"realtime-{task}.safetensors", Realtime(**OPTIONS), "realtime", task, OPTIONS)
    media.write_folders(tmp_path / "data" / "infrared" / "val", ["1", "2"])
    for other in ("ct", "pet", "spect"):
        folder = tmp_path / "data" / "medical" / "val" / f"mri-{other}"
        media.write_image(folder / "mri" / "1.png", media.heat())
        media.write_image(folder / other / "1.png", media.scene())
    return tmp_path / "data"


def section_of(title: str) -> list[str]:
    """The rows of a table of the page."""
    text = page.PAGE.read_text().partition(f"### {title}")[2].partition("###")[0]
    return [line for line in text.splitlines() if line.startswith("| ")][1:]


def test_everything_is_measured_and_the_page_follows_from_the_figures_alone(data: Path) -> None:
    page.main(["--data", str(data)])
    figures = json.loads(page.FIGURES.read_text())
    assert figures["conditions"].keys() == {"processor", "threads", "torch", "precision"}
    assert figures["speed"]["milliseconds"].keys() == {"realtime-infrared", "realtime-medical"}
    assert figures["quality"]["infrared"]["val"]["pairs"] == 2
    assert figures["quality"]["medical"].keys() == {"mri-ct", "mri-pet", "mri-spect"}
    written = page.PAGE.read_text()
    page.PAGE.unlink()
    page.main(["--from-json"])
    assert page.PAGE.read_text() == written


def as_if_of(pairs: dict[str, int]) -> None:
    """The page of the figures, had they been of so many pairs."""
    figures = json.loads(page.FIGURES.read_text())
    for task, number in pairs.items():
        for found in figures["quality"][task].values():
            found["pairs"] = number
    page.FIGURES.write_text(json.dumps(figures))
    page.main(["--from-json"])


def test_the_tables_rank_our_networks_among_the_others(data: Path) -> None:
    page.main(["--data", str(data)])
    as_if_of({"infrared": 40, "medical": 15})
    infrared = section_of("Infrared and visible (40 pairs)")
    assert len(infrared) == 12 + 1 + 2  # the others, ours, the controls
    assert sum(line.startswith("| **realtime** | ") for line in infrared) == 1
    assert [line.endswith("| - |") for line in infrared] == [False] * 13 + [True] * 2  # controls have no rank
    ranks = [float(line.split(" | ")[-1].rstrip(" |")) for line in infrared[:13]]
    assert ranks == sorted(ranks)
    medical = {line.split(" | ")[0].strip("|* ") for line in section_of("Medical: MRI and CT (15 pairs)")}
    assert medical == {"realtime", "average", "maximum", "Laplacian pyramid", "GFF"}


def test_what_was_measured_on_other_pairs_is_not_compared(data: Path) -> None:
    page.main(["--data", str(data)])
    methods = {line.split(" | ")[0] for line in section_of("Infrared and visible (2 pairs)")}
    assert methods == {"| **realtime**", "| average", "| maximum"}


def test_only_some_are_judged_again_and_the_others_keep_their_quality(data: Path) -> None:
    page.main(["--data", str(data)])
    figures = json.loads(page.FIGURES.read_text())
    figures["quality"]["infrared"]["val"]["means"]["realtime"]["EN"] = 1.234
    figures["quality"]["medical"]["mri-ct"]["means"]["realtime"]["EN"] = 5.678
    page.FIGURES.write_text(json.dumps(figures))
    page.main(["--data", str(data), "--only", "realtime-infrared"])
    again = json.loads(page.FIGURES.read_text())["quality"]
    assert again["infrared"]["val"]["means"]["realtime"]["EN"] != 1.234
    assert again["medical"] == figures["quality"]["medical"]


def test_weights_that_changed_do_not_keep_the_quality_of_those_before(data: Path) -> None:
    page.main(["--data", str(data)])
    media.write_weights(page.FIGURES.with_name("cadnif-infrared.safetensors"))
    catalog.save(page.FIGURES.with_name("realtime-medical.safetensors"), Realtime(), "realtime", "medical", {})
    page.main(["--data", str(data), "--only", "cadnif-infrared"])
    quality = json.loads(page.FIGURES.read_text())["quality"]
    assert quality["infrared"]["val"]["means"].keys() == {"average", "maximum", "cadnif", "realtime"}
    assert quality["medical"]["mri-ct"]["means"].keys() == {"average", "maximum"}


def test_what_cannot_be_measured_is_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is none yet"):
        page.main(["--from-json"])
    with pytest.raises(SystemExit, match="no weights 'realtime-focus'"):
        page.main(["--data", str(data), "--only", "realtime-focus"])
    with pytest.raises(SystemExit, match="nowhere"):
        page.main(["--data", str(tmp_path / "nowhere")])
    page.main(["--data", str(data)])
    figures = json.loads(page.FIGURES.read_text())
    page.FIGURES.write_text(json.dumps(figures | {"conditions": {"precision": "another"}}))
    with pytest.raises(SystemExit, match="measure all"):
        page.main(["--data", str(data), "--only", "realtime-infrared"])


def test_the_page_that_ships_follows_from_the_figures_that_ship() -> None:
    assert page.FIGURES.exists() == page.PAGE.exists()
    if page.FIGURES.exists():
        assert page.PAGE.read_text(encoding="utf-8") == page.page(
            listing.read_figures(), json.loads(page.PEERS.read_text())
        )


def test_the_figures_that_ship_are_of_the_weights_that_ship() -> None:
    measured = {name: about["sha256"] for name, about in listing.read_figures().get("weights", {}).items()}
    paths = [listing.path_of(*of) for of in listing.shipped()]
    there = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert measured in ({}, there), "run docs/models.py"
