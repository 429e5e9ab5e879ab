"""`run.py A.yaml B.yaml C.yaml`: processes that are killed, fail, are interrupted, and lose who has started them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.programs import frames_that_play
from tests.several import live, recorded, started, until_gone


@pytest.mark.slow
def test_a_recorded_process_that_is_killed_ends_all_and_nothing_looks_whole(tmp_path: Path) -> None:
    with started(tmp_path, *recorded(tmp_path, work={"type": "test.hangs", "after": 30})) as program:
        program.until(lambda: "work    | hanging" in program.err, "frames have passed")
        program.until(lambda: frames_that_play(tmp_path / "night.mkv"), "a recording that plays")
        os.kill(program.pid("work"), signal.SIGKILL)
        outcome = program.end()
    assert outcome.code == 128 + signal.SIGKILL
    assert outcome.error == "error: work: was killed by SIGKILL"
    assert not (tmp_path / "night.mkv").exists()
    assert frames_that_play(tmp_path / "night.partial.mkv") > 0


@pytest.mark.slow
def test_a_recorded_failure_ends_all_with_its_code(tmp_path: Path) -> None:
    with started(tmp_path, *recorded(tmp_path, work={"type": "test.fails", "after": 20})) as program:
        outcome = program.end()
    assert outcome.code == 5
    assert outcome.error == "error: work: the end of the world"
    assert not (tmp_path / "night.mkv").exists()  # half of it is not left as if it were whole


@pytest.mark.slow
def test_a_process_that_never_comes_up_ends_all_with_its_code(tmp_path: Path) -> None:
    with started(tmp_path, *live(tmp_path), "save.path=nowhere/night.mkv") as program:
        outcome = program.end()
    assert outcome.code == 5
    assert outcome.error.startswith("error: record: nowhere/night.mkv: there is no folder 'nowhere'")
    assert "starting it again" not in outcome.err


@pytest.mark.slow
def test_a_mistake_in_one_config_is_one_line_and_nothing_runs(tmp_path: Path) -> None:
    with started(tmp_path, *live(tmp_path), "hand_on.adress=ipc://x") as program:
        outcome = program.end()
    assert outcome.code == 2
    assert outcome.err.splitlines() == [outcome.error]
    assert outcome.error == "error: work: Node 'hand_on' (output.zmq) has no setting 'adress'. Did you mean 'address'?"
    assert not list(tmp_path.glob("*.ipc"))


@pytest.mark.slow
def test_ctrl_c_finishes_recorded_files_too(tmp_path: Path) -> None:
    configs = recorded(tmp_path, work={"type": "test.hangs", "after": 30})
    with started(tmp_path, *configs) as program:
        program.until(lambda: frames_that_play(tmp_path / "night.mkv"), "a recording that plays")
        program.until(lambda: "work    | hanging" in program.err, "it hangs")
        outcome = program.interrupt()
    assert outcome.code == 130
    assert "work    | worker: did not stop within" in outcome.err
    assert frames_that_play(tmp_path / "night.mkv") > 0
    assert not list(tmp_path.glob("*.partial.*"))


@pytest.mark.slow
def test_a_second_ctrl_c_forces(tmp_path: Path) -> None:
    with started(tmp_path, *live(tmp_path, work={"type": "test.hangs", "after": 1})) as program:
        program.until(lambda: "work    | hanging" in program.err, "it hangs")
        program.process.send_signal(signal.SIGINT)
        program.until(lambda: "once more to force" in program.err, "it stops")
        program.process.send_signal(signal.SIGINT)
        outcome = program.end()
        pids = [program.pids(name)[0] for name in ("capture", "work", "record")]
        for pid in pids:
            until_gone(pid)
    assert outcome.code == 130
    assert "did not stop within" not in outcome.err


@pytest.mark.slow
def test_when_the_one_that_started_them_is_killed_all_end_in_good_order(tmp_path: Path) -> None:
    video = tmp_path / "night.mkv"
    with started(tmp_path, *live(tmp_path)) as program:
        pids = [program.pid(name) for name in ("capture", "work", "record")]
        program.until(lambda: frames_that_play(video), "a recording that plays")
        program.process.kill()
        for pid in pids:
            until_gone(pid)
    assert frames_that_play(video) > 0
    assert not list(tmp_path.glob("*.ipc")), "what they opened is closed"


@pytest.mark.slow
def test_live_processes_end_with_the_cameras_and_standard_output_has_the_figures_alone(tmp_path: Path) -> None:
    with started(tmp_path, *live(tmp_path), "--quiet", "camera.frames=10", "--json", "-") as program:
        outcome = program.end()
    assert (outcome.code, outcome.err) == (0, "")
    processes = json.loads(outcome.out)["processes"]
    assert list(processes) == ["capture", "work", "record"]
    assert processes["capture"]["nodes"]["camera"]["emitted"] == 10
