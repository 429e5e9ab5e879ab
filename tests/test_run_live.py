"""The live program as a whole: the configs that come with it, Ctrl-C in every state, a lost sensor, 16 bits."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import config
from tests import media
from tests.nodes.capture.rtsp import RtspCamera
from tests.programs import PATIENCE, ROOT, Program, drops, frames_that_play, nodes_of, started, write_tree

THERMAL16 = ROOT.parent / "shared" / "data" / "thermal16"
READY: dict[str, tuple[str, list[str]]] = {  # config -> its task, and what makes it light
    "night_vision": ("infrared", ["visible.size=[64, 48]", "thermal.size=[64, 48]"]),
    "thermal_lepton": ("infrared", ["visible.size=[64, 48]"]),
    "hdr_bracket": ("exposure", ["camera.size=[64, 48]"]),
    "rtsp_pair": ("infrared", []),  # network streams say themselves how large they are
}
PATTERN = {"type": "capture.pattern", "size": [64, 48]}


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Program, Path]]]:
    """The configs side by side, for most of the time goes into starting; each with its folder."""
    with ExitStack() as programs:
        running = {}
        for name, (task, words) in READY.items():
            folder = tmp_path_factory.mktemp(name)
            weights = media.write_weights(folder / "untrained.safetensors", task, "realtime")
            light = ["page.port=0", f"fuse.weights={weights}", *words]
            light += [f"record.path={folder / 'night.mkv'}"] if name == "night_vision" else []
            words = [f"configs/{name}.yaml", *light, "--simulate", "--for", "2", "--json", "-"]
            running[name] = (programs.enter_context(started(folder, *words)), folder)
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("name", READY)
def test_a_ready_config_can_be_tried_without_cameras(simulated: dict[str, tuple[Program, Path]], name: str) -> None:
    program, folder = simulated[name]
    outcome = program.end()
    assert outcome.code == 0, outcome.err
    assert "the page is at http://127.0.0.1:" in outcome.err
    nodes = nodes_of(outcome, config.read(ROOT / "configs" / f"{name}.yaml"))
    states = nodes["fuse"]["states"]
    assert sum(states.values()) == nodes["fuse"]["emitted"] > 0
    in_time = all(node["age_p99_ms"] < 100 for node in nodes.values() if node["source"])
    assert "fused" in states or not in_time, "on a machine that is busy with other things the cameras are, too"
    recordings = list(folder.glob("night-*.mkv"))
    assert len(recordings) == ("record" in nodes)
    assert frames_that_play(*recordings) == nodes.get("record", {"emitted": 0})["emitted"]


def test_ctrl_c_while_it_connects(tmp_path: Path) -> None:
    with ExitStack() as stack:
        mute = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))  # which nobody else gets, and nobody listens at
        trees, programs = {}, {}
        for name, there in (("mute", mute), ("closed", closed)):
            url = f"rtsp://admin:s3cret@127.0.0.1:{there.getsockname()[1]}/live"
            folder = tmp_path / name
            folder.mkdir()
            trees[name] = {
                "camera": {"type": "capture.stream", "url": url},
                "save": {"type": "output.video", "inputs": "camera", "path": str(folder / "night.mkv")},
            }
            words = (write_tree(folder / "live.yaml", trees[name]), "--json", "-")
            programs[name] = stack.enter_context(started(folder, *words))
        mute.settimeout(PATIENCE)
        stack.enter_context(mute.accept()[0])  # and say nothing
        programs["closed"].until_told("refused: nothing listens at that port; trying again")
        for name, program in programs.items():
            outcome = program.interrupt()
            assert outcome.code == 130
            assert nodes_of(outcome, trees[name])["save"]["taken"] == 0
            assert not list((tmp_path / name).glob("*.mkv"))
            assert "s3cret" not in outcome.err + outcome.out


def test_ctrl_c_while_it_reconnects(tmp_path: Path) -> None:
    video = tmp_path / "night.mkv"
    with RtspCamera(rate=30) as camera:
        tree = {
            "camera": {"type": "capture.stream", "url": camera.url},
            "save": {"type": "output.video", "inputs": "camera", "path": str(video)},
        }
        with started(tmp_path, write_tree(tmp_path / "live.yaml", tree), "--json", "-") as program:
            program.until(lambda: frames_that_play(video), "a recording that plays")
            camera.stop()
            program.until_told("trying again")
            outcome = program.interrupt()
    assert outcome.code == 130
    nodes = nodes_of(outcome, tree)
    assert nodes["camera"]["notes"]["reconnects"] == 1
    assert frames_that_play(video) == nodes["save"]["emitted"] > 0


@pytest.mark.slow
def test_ctrl_c_while_it_records_several_files(tmp_path: Path) -> None:
    tree = {
        "camera": PATTERN | {"view": "visible"},
        "save": {"type": "output.video", "inputs": "camera", "path": str(tmp_path / "night.mp4"), "segment_s": 1},
    }
    with started(tmp_path, write_tree(tmp_path / "live.yaml", tree), "--json", "-") as program:
        program.until(lambda: len(list(tmp_path.glob("*.mp4"))) > 1, "a second file")
        outcome = program.interrupt()
    assert outcome.code == 130
    counts = [frames_that_play(path) for path in tmp_path.glob("*.mp4")]
    assert all(counts)
    assert sum(counts) == nodes_of(outcome, tree)["save"]["emitted"]
    assert not list(tmp_path.glob("*.partial.*"))


def test_ctrl_c_while_somebody_watches(tmp_path: Path) -> None:
    tree = {
        "camera": PATTERN | {"view": "visible"},
        "page": {"type": "output.web", "inputs": "camera", "views": ["fused"], "port": 0},
    }
    with started(tmp_path, write_tree(tmp_path / "live.yaml", tree), "--json", "-") as program:
        program.until_told("the page is at ")
        found = re.search(r"http://(\S+)", program.err)
        assert found is not None
        with closing(http.client.HTTPConnection(found[1], timeout=PATIENCE)) as idle:
            idle.request("GET", "/api/state")
            assert idle.getresponse().read()
            with closing(http.client.HTTPConnection(found[1], timeout=PATIENCE)) as watching:
                watching.request("GET", "/stream/fused.mjpg")
                stream = watching.getresponse()
                assert b"--frame" in stream.read(2000)
                outcome = program.interrupt()
                with suppress(http.client.IncompleteRead):
                    stream.read()  # to where it breaks off: it has no other end
    assert outcome.code == 130
    assert nodes_of(outcome, tree)["page"]["emitted"] > 0


@pytest.mark.slow
def test_a_lost_sensor_does_not_end_the_picture_and_ctrl_c_does(tmp_path: Path) -> None:
    video, weights = tmp_path / "night.mkv", tmp_path / "untrained.safetensors"
    media.write_weights(weights, model="realtime")
    tree = {
        "thermal": PATTERN | {"view": "infrared", "silent": [[0.5, 1e9]]},
        "rgb": PATTERN | {"view": "visible"},
        "fuse": {
            "type": "fusion.fuse",
            "inputs": {"infrared": "thermal", "visible": "rgb"},
            "weights": str(weights),
        },
        "save": {"type": "output.video", "inputs": "fuse", "path": str(video)},
    }
    with started(tmp_path, write_tree(tmp_path / "live.yaml", tree), "--json", "-") as program:
        program.until_told("fuse: visible only from now on")
        until_then = frames_that_play(video)
        program.until(lambda: frames_that_play(video) > until_then, "more frames than when the sensor was lost")
        outcome = program.interrupt()
    assert outcome.code == 130
    nodes = nodes_of(outcome, tree)
    states = nodes["fuse"]["states"]
    assert states["fused"] > 0
    assert states["visible_only"] > 0
    assert sum(states.values()) == nodes["fuse"]["emitted"]
    assert frames_that_play(video) == nodes["save"]["emitted"]
    assert len(re.findall(r"^save +\d+ frames", outcome.err, re.MULTILINE)) == 1


@pytest.mark.slow
def test_two_addresses_are_fused_for_as_long_as_wanted(tmp_path: Path) -> None:
    video, weights = tmp_path / "fused.mkv", tmp_path / "untrained.safetensors"
    media.write_weights(weights, model="realtime")
    with RtspCamera("s3cret", rate=30) as infrared, RtspCamera("s3cret", rate=30) as visible:
        urls = [camera.url.replace("//", "//admin:s3cret@") for camera in (infrared, visible)]
        words = ("fuse", *urls, "-o", video, "--weights", weights, "--for", "2", "--json", "-")
        with started(tmp_path, *words) as program:
            outcome = program.end()
    assert outcome.code == 0, outcome.err
    wiring = {"infrared": {}, "visible": {}, "fuse": {"inputs": {"infrared": "infrared", "visible": "visible"}}}
    nodes = nodes_of(outcome, wiring | {"output": {"inputs": "fuse"}})
    assert frames_that_play(video) == nodes["output"]["emitted"] > 0
    assert "s3cret" not in outcome.err + outcome.out


def clips() -> list[Any]:
    """Names of recordings, of which one is made."""
    there = sorted(path.name for path in THERMAL16.glob("*.mkv"))
    return (
        ["synthetic", *there] if there else ["synthetic", pytest.param("", marks=pytest.mark.skip(f"no {THERMAL16}"))]
    )


@pytest.mark.parametrize("name", clips())
def test_16_bits_played_as_by_a_camera_are_recorded_bit_by_bit(tmp_path: Path, name: str) -> None:
    clip, copy = THERMAL16 / name, tmp_path / "copy.mkv"
    if name == "synthetic":
        noise = np.random.default_rng(1).integers(0, 1 << 16, (20, 48, 64), np.uint16)
        clip = media.write_video(tmp_path / "synthetic.mkv", noise, fps=30, pixel_format="gray16le")
    tree = {
        "camera": {"type": "capture.video", "path": str(clip), "pace": "realtime"},
        "save": {"type": "output.video", "inputs": "camera", "path": str(copy), "codec": "ffv1", "queue_size": 100},
    }
    with started(tmp_path, write_tree(tmp_path / "live.yaml", tree), "--for", "1", "--json", "-") as program:
        outcome = program.end()
    assert outcome.code == 0, outcome.err
    save = nodes_of(outcome, tree)["save"]
    assert drops(save, "frame") == save["dropped"].get("frame interrupted", 0)
    pictures = [picture.to_ndarray() for picture in media.decoded(copy)]
    assert len(pictures) == save["emitted"] > 0
    assert {picture.dtype for picture in pictures} == {np.dtype(np.uint16)}
    originals = (picture.to_ndarray() for picture in media.decoded(clip))
    assert all(any(np.array_equal(one, other) for other in originals) for one in pictures), "another picture, or order"
