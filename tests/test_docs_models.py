"""The page of the models says what was measured, and of the weights that are there."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs import models as command
from docs import models_page
from models import catalog, listing
from models.realtime import Realtime
from tests import media

OPTIONS = {"channels": 8, "blocks": 1}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two data sets, two untrained weights, and files of its own for the results."""
    weights = tmp_path / "weights"
    monkeypatch.setattr("models.catalog.WEIGHTS", weights)
    monkeypatch.setattr(command, "FIGURES", weights / "figures.json")
    monkeypatch.setattr(command, "PAGE", tmp_path / "models.md")
    monkeypatch.setattr(command, "FRAMES", 1)
    monkeypatch.setattr(listing, "SIZE", media.SIZE)
    monkeypatch.setattr(listing, "multiply_adds_a_pixel", lambda _: 1000)  # counting takes longer than all the rest
    for task in ("infrared", "medical"):
        catalog.save(weights / f"realtime-{task}.safetensors", Realtime(**OPTIONS), "realtime", task, OPTIONS)
    media.write_folders(tmp_path / "data" / "infrared" / "val", ["1", "2"])
    for other in ("ct", "pet", "spect"):
        folder = tmp_path / "data" / "medical" / "val" / f"mri-{other}"
        media.write_image(folder / "mri" / "1.png", media.heat())
        media.write_image(folder / other / "1.png", media.scene())
    for clip in models_page.CLIPS:
        (tmp_path / "data" / "video" / clip).mkdir(parents=True)
        media.write_recording(tmp_path / "data" / "video" / clip, 4)
    return tmp_path / "data"


def table_of(title: str) -> list[list[str]]:
    """The cells of a table of the page, its heads first."""
    text = re.split("\n#", command.PAGE.read_text().partition(f"## {title}")[2])[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows]


def write_second_network(task: str = "infrared") -> None:
    media.write_weights(command.FIGURES.with_name(f"cadnif-{task}.safetensors"), task)


def figures() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command.FIGURES.read_text())
    return found


def test_everything_is_measured_and_the_page_follows_from_the_figures_alone(data: Path) -> None:
    command.main(["--data", str(data)])
    found = figures()
    assert found["conditions"].keys() == {"processor", "threads", "torch", "precision"}
    assert found["speed"]["milliseconds"].keys() == {"realtime-infrared", "realtime-medical"}
    assert found["quality"]["infrared"]["val"]["pairs"] == 2
    assert found["quality"]["medical"].keys() == {"mri-ct", "mri-pet", "mri-spect"}
    written = command.PAGE.read_text()
    command.PAGE.unlink()
    command.main(["--from-json"])
    assert command.PAGE.read_text() == written


def as_if_of(pairs: dict[str, int]) -> None:
    """The page of the figures, had they been of so many pairs."""
    found = figures()
    for task, number in pairs.items():
        for of in found["quality"][task].values():
            of["pairs"] = number
    command.FIGURES.write_text(json.dumps(found))
    command.main(["--from-json"])


CONTROLS = ["average", "maximum", "Laplacian pyramid", "GFF"]


def test_the_tables_rank_our_network_among_the_others(data: Path) -> None:
    command.main(["--data", str(data)])
    as_if_of({"infrared": 40, "medical": 15})
    heads, *infrared = table_of("Infrared and visible (40 pairs)")
    assert heads[-1] == "mean rank, realtime"
    assert len(infrared) == 10 + 1 + 4  # the others, ours, the controls
    assert sum(row[0] == "**realtime**" for row in infrared) == 1
    assert [row[-1] == "-" for row in infrared] == [False] * 13 + [True] * 2
    assert {row[0] for row in infrared[13:]} == {"average", "maximum"}  # which have no rank, as in the field
    ranks = [float(row[-1]) for row in infrared[:13]]
    assert ranks == sorted(ranks)
    assert sum(ranks) / 13 == pytest.approx(7, abs=0.06)  # all of 1 to 13 are given away


def test_medical_pairs_are_ranked_among_the_controls_measured_here(data: Path) -> None:
    command.main(["--data", str(data)])
    for other in ("CT", "PET, grey", "SPECT, grey"):
        _, *rows = table_of(f"Medical: MRI and {other} (1 pairs)")
        assert {row[0] for row in rows} == {"**realtime**", *CONTROLS}
        assert sum(float(row[-1]) for row in rows) / 5 == pytest.approx(3, abs=0.06)


def test_each_of_our_networks_is_ranked_without_the_other() -> None:
    good, best, worst = ({"SF": x, "MI": x, "SCD": x, "VIF": x, "Qabf": x, "SSIM": x} for x in (2.0, 3.0, 1.0))
    ranks = models_page.ranks_beside("medical", {"a": best, "b": good, "GFF": worst}, ["a", "b"])
    assert ranks == {"a": {"a": 1, "GFF": 2}, "b": {"b": 1, "GFF": 2}}
    found = {"pairs": 2, "means": {"a": best, "b": good, "GFF": worst}}
    text = models_page.section("medical/mri-ct", found, {})
    assert "| mean rank, a | mean rank, b |" in text
    assert [line.split(" | ")[-2:] for line in text.splitlines() if line.startswith("| **")] == [
        ["1.0", "- |"],
        ["-", "1.0 |"],
    ]
    assert "without our other one" in text


def test_what_was_measured_on_other_pairs_is_not_compared(data: Path) -> None:
    command.main(["--data", str(data)])
    methods = {row[0] for row in table_of("Infrared and visible (2 pairs)")[1:]}
    assert methods == {"**realtime**", *CONTROLS}


def test_what_is_measured_here_is_not_among_the_figures_of_others() -> None:
    peers = json.loads(command.PEERS.read_text())
    for found in peers["tables"].values():
        assert found["rows"].keys().isdisjoint(CONTROLS)
    assert peers["stability"]["rows"].keys().isdisjoint(CONTROLS)


# Stability and robustness:


def test_stability_is_of_each_network_with_and_without_beside_the_controls(data: Path) -> None:
    write_second_network()
    command.main(["--data", str(data), "--frames", "3"])
    heads, *rows = table_of("Stability")
    assert heads[:4] == ["method", "gain-jumps, first 3", "all 3", "smear"]
    ours = ["**cadnif**", "cadnif, not steady", "**realtime**", "realtime, not steady"]
    assert [row[0] for row in rows[:8]] == [*ours, *CONTROLS]
    assert all(row[3] and row[6] and row[9] for row in rows[:8] if row[0].startswith("**"))
    assert "no more than 3 frames" in command.PAGE.read_text()
    peers = json.loads(command.PEERS.read_text())["stability"]["rows"]
    assert [row[0] for row in rows[8:]] == list(peers)
    assert {cell for row in rows[8:] for cell in row[1:]} == {""}  # theirs are of 16 frames, these of 3


def test_the_others_stand_beside_the_first_16_frames() -> None:
    row = {"unexplained_change": 0.5, "unexplained_change_16": 0.25}
    clips = {"smoke": {"frames": 20, "methods": {"average": row, "net": row | {"smear": 0.125}}}}
    lines = models_page.stability(clips, {"IFCNN": {"smoke": 0.035, "stairs": 0.094}}).splitlines()
    assert lines[0] == "| method | smoke, first 16 | all 20 | smear |"
    assert lines[2:] == [
        "| **net** | 0.250 | 0.500 | 0.125 |",
        "| average | 0.250 | 0.500 |  |",
        "| IFCNN | 0.035 |  |  |",
    ]


def test_robustness_is_what_is_lost_relative_to_clean_sources(data: Path) -> None:
    command.main(["--data", str(data)])
    clean = figures()["quality"]["infrared"]["val"]["means"]["realtime"]
    noisy = figures()["robustness"]["noise"]["means"]["realtime"]
    heads, *rows = table_of("Infrared with white noise of 10 grey levels (2 pairs)")
    assert [row[0] for row in rows] == ["**realtime**", "Laplacian pyramid"]
    assert rows[0][heads.index("SD")] == f"{100 * (1 - noisy['SD'] / clean['SD']):.1f} %"
    assert rows[0][heads.index("Nabf")] == f"{noisy['Nabf'] - clean['Nabf']:+.3f}"
    assert re.fullmatch(r"\d+ of \d+", rows[0][-1])
    assert rows[1][-1] == "-"
    assert len(table_of("Infrared shifted by 3 px to the right (2 pairs)")) == 3


def test_losses_count_against_the_control_in_the_right_direction() -> None:
    clean = {"EN": 4.0, "SF": 10.0, "Nabf": 0.1}
    means = {"net": {"EN": 3.0, "SF": 12.0, "Nabf": 0.2}, "Laplacian pyramid": {"EN": 2.0, "SF": 11.0, "Nabf": 0.15}}
    assert models_page.losses(clean, means["net"]) == pytest.approx({"EN": 25, "SF": -20, "Nabf": 0.1})
    text = models_page.robustness("noise", {"pairs": 1, "means": means}, {"net": clean, "Laplacian pyramid": clean})
    row = next(line for line in text.splitlines() if line.startswith("| **net**"))
    assert "25.0 %" in row
    assert "-20.0 %" in row
    assert "+0.100" in row
    assert row.endswith("| 2 of 3 |")  # of Nabf more than the control


def test_damage_is_the_same_at_each_run_and_another_for_each_pair() -> None:
    plane = np.full((200, 300), 128, np.uint8)
    noise = command.noisy("one", plane).astype(float) - plane
    assert noise.std() == pytest.approx(10, rel=0.02)
    assert np.array_equal(command.noisy("one", plane), command.noisy("one", plane))
    assert not np.array_equal(command.noisy("one", plane), command.noisy("two", plane))
    slope = np.arange(8, dtype=np.uint8)[None]
    assert command.shifted("", slope).tolist() == [[0, 0, 0, 0, 1, 2, 3, 4]]


def test_only_the_first_source_is_damaged_and_only_for_the_fusion() -> None:
    seen = []
    fuse = command.seeing(lambda stem, plane: plane + len(stem), lambda _, a, b: seen.append((a, b)) or a)  # type: ignore
    fuse("four", np.zeros(1), np.ones(1))
    assert [(a.tolist(), b.tolist()) for a, b in seen] == [([4.0], [1.0])]


# Only some:


def test_only_some_are_judged_again_and_the_others_keep_their_quality(data: Path) -> None:
    command.main(["--data", str(data)])
    found = figures()
    found["quality"]["infrared"]["val"]["means"]["realtime"]["EN"] = 1.234
    found["quality"]["medical"]["mri-ct"]["means"]["realtime"]["EN"] = 5.678
    command.FIGURES.write_text(json.dumps(found))
    command.main(["--data", str(data), "--only", "realtime-infrared"])
    again = json.loads(command.FIGURES.read_text())["quality"]
    assert again["infrared"]["val"]["means"]["realtime"]["EN"] != 1.234
    assert again["medical"] == found["quality"]["medical"]


def test_clips_and_damage_of_what_did_not_change_are_not_measured_again(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_second_network()
    command.main(["--data", str(data)])
    before, judged = figures(), []
    measure = command.stability.measure

    def record(*arguments: Any, **how: Any) -> Any:
        judged.append((list(how["networks"]), list(how["controls"])))
        return measure(*arguments, **how)

    monkeypatch.setattr(command.stability, "measure", record)
    command.main(["--data", str(data), "--only", "realtime-infrared"])
    assert judged == [(["realtime"], [])] * 3
    assert figures()["stability"] == before["stability"]
    assert figures()["robustness"] == before["robustness"]
    shutil.rmtree(data / "video")
    shutil.rmtree(data / "infrared")
    command.main(["--data", str(data), "--only", "realtime-medical"])  # which needs neither
    assert figures()["stability"] == before["stability"]


def test_weights_that_changed_do_not_keep_what_was_measured_of_those_before(data: Path) -> None:
    command.main(["--data", str(data)])
    write_second_network()
    for task in ("infrared", "medical"):
        changed = command.FIGURES.with_name(f"realtime-{task}.safetensors")
        catalog.save(changed, Realtime(), "realtime", task, {})
    command.main(["--data", str(data), "--only", "cadnif-infrared"])
    assert figures()["quality"]["infrared"]["val"]["means"].keys() == {*CONTROLS, "cadnif"}
    assert figures()["quality"]["medical"]["mri-ct"]["means"].keys() == set(CONTROLS)
    steady = {"cadnif", "cadnif, not steady"}
    assert figures()["stability"]["clips"]["smoke"]["methods"].keys() == {*CONTROLS, *steady}
    assert figures()["robustness"]["shift"]["means"].keys() == {"Laplacian pyramid", "cadnif"}


def test_what_cannot_be_measured_is_told(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="there is none yet"):
        command.main(["--from-json"])
    with pytest.raises(SystemExit, match="no weights 'realtime-focus'"):
        command.main(["--data", str(data), "--only", "realtime-focus"])
    with pytest.raises(SystemExit, match="nowhere"):
        command.main(["--data", str(tmp_path / "nowhere")])
    command.main(["--data", str(data)])
    found = figures()
    command.FIGURES.write_text(json.dumps(found | {"conditions": {"precision": "another"}}))
    with pytest.raises(SystemExit, match="measure all"):
        command.main(["--data", str(data), "--only", "realtime-infrared"])
    command.FIGURES.write_text(json.dumps(found))
    with pytest.raises(SystemExit, match="--frames None, not 3; measure all"):
        command.main(["--data", str(data), "--only", "realtime-infrared", "--frames", "3"])
    with pytest.raises(SystemExit, match="two frames or more"):
        command.main(["--data", str(data), "--frames", "1"])
    (data / "video" / "smoke" / "visible.mkv").unlink()
    with pytest.raises(SystemExit, match="smoke: there is no video 'visible'"):
        command.main(["--data", str(data)])


def test_the_page_that_ships_follows_from_the_figures_that_ship() -> None:
    assert command.FIGURES.exists() == command.PAGE.exists()
    if command.FIGURES.exists():
        assert command.PAGE.read_text(encoding="utf-8") == models_page.page(
            listing.read_figures(), json.loads(command.PEERS.read_text())
        )


def test_the_figures_that_ship_are_of_the_weights_that_ship() -> None:
    measured = {name: about["sha256"] for name, about in listing.read_figures().get("weights", {}).items()}
    paths = [listing.path_of(*of) for of in listing.shipped()]
    there = {path.stem: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    assert measured in ({}, there), "run docs/models.py"
