"""Who is started, again, ended and killed when; with processes and a clock that are played."""

from __future__ import annotations

import logging

import pytest

from nodes.processes.plan import Job
from nodes.processes.supervisor import DRAIN_S, GOOD_S, KILL_S, LONGEST_PAUSE_S, TURN_S, Supervisor
from pipeline.errors import DeviceError
from tests.nodes.processes.played import KILLED, LIVE, Played, Stage


def test_nobody_goes_before_all_have_found_their_configs_right() -> None:
    stage = Stage("capture", "fuse")
    stage["capture"].says(mode=LIVE)
    stage.turn(60)
    assert stage.asked("capture") == []
    stage["fuse"].says(mode=LIVE)
    stage.turn()
    assert stage.asked("capture") == stage.asked("fuse") == ["go"]


def test_a_mistake_in_one_config_ends_all_before_any_has_begun(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage("capture", "fuse", "record")
    stage["capture"].says(mode=LIVE)
    stage["fuse"].ends(2, error="Node 'fuse' has no setting 'modle'")
    stage["record"].ends(2, error="Node 'save' has no setting 'pth'")
    stage.turn(2 * TURN_S)
    assert stage.asked("capture") == ["kill", "close"]
    report = stage.report()
    assert (report.code, report.error) == (2, "fuse: Node 'fuse' has no setting 'modle'")
    assert report.lines() == caplog.messages == []


def test_a_live_process_that_crashes_is_started_again_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    stage = Stage("capture", "fuse").up()
    stage["fuse"].ends(KILLED)
    stage.turn()
    assert "fuse: was killed by SIGKILL; starting it again in 0.5 s" in caplog.messages
    stage.turn(1)
    assert len(stage.started["fuse"]) == 2
    assert stage.asked("fuse") == ["go"]
    assert stage.asked("capture") == ["go"]
    stage["fuse"].says(mode=LIVE, ready=True)
    stage.supervisor.stop()
    stage.turn()
    summary = {"mode": LIVE, "seconds": 1.0, "nodes": {}, "broken": []}
    for name in ("capture", "fuse"):
        stage[name].ends(130, summary=summary)
    stage.turn()
    report = stage.report()
    assert report.figures() == {
        "processes": {"capture": summary, "fuse": summary},
        "restarts": {"capture": 0, "fuse": 1},
    }
    assert report.lines() == ["fuse    | restarted 1 time"]
    assert (report.code, report.error) == (130, "")


def pauses(stage: Stage, name: str, crashes: int, running_s: float = 0.0) -> list[float]:
    """How long after each crash the next process is started."""
    found = []
    for _ in range(crashes):
        stage[name].says(ready=True)
        stage.turn(running_s or TURN_S)
        stage[name].ends(1)
        stage.turn()
        crashed_at, before = stage.now, len(stage.started[name])
        while len(stage.started[name]) == before:
            stage.turn()
            assert stage.now < crashed_at + 60
        found.append(round(stage.now - crashed_at, 1))
    return found


def test_pauses_double_up_to_a_limit_and_good_running_forgives() -> None:
    stage = Stage("fuse").up()
    found = pauses(stage, "fuse", 10)
    assert found == pytest.approx([0.5, 1, 2, 4, 8, *[LONGEST_PAUSE_S] * 5], abs=2 * TURN_S)
    assert pauses(stage, "fuse", 1, running_s=GOOD_S + 1) == pytest.approx([0.5], abs=2 * TURN_S)
    assert stage.supervisor.places[0].restarts == 11


def test_one_that_was_up_once_is_tried_for_ever() -> None:
    stage = Stage("capture", "fuse").up()
    for _ in range(20):
        stage["fuse"].ends(5, error="the port is in use")
        stage.turn(LONGEST_PAUSE_S + 1)
    assert len(stage.started["fuse"]) == 21
    assert stage.asked("capture") == ["go"]


def test_no_room_for_a_process_for_now_is_one_more_crash() -> None:
    stage = Stage("fuse").up()
    stage["fuse"].ends(KILLED)
    stage.no_room = True
    stage.turn(5)
    stage.no_room = False
    stage.turn(LONGEST_PAUSE_S)
    assert len(stage.started["fuse"]) == 2


def test_one_that_never_came_up_ends_all_with_its_code() -> None:
    stage = Stage("capture", "fuse")
    for name in ("capture", "fuse"):
        stage[name].says(mode=LIVE)
    stage.turn()
    stage["capture"].says(ready=True)
    stage["fuse"].ends(4, error="there is no CUDA here")
    stage.turn()
    assert stage.asked("capture") == ["go", "stop"]
    stage["capture"].ends(130)
    stage.turn()
    report = stage.report()
    assert (report.code, report.error) == (4, "fuse: there is no CUDA here")


def test_a_config_that_is_wrong_by_now_ends_all() -> None:
    stage = Stage("capture", "fuse").up()
    stage["fuse"].ends(KILLED)
    stage.turn(1)
    stage["fuse"].ends(2, error="fuse.yaml: not valid YAML")
    stage.turn()
    assert stage.asked("capture") == ["go", "stop"]


def test_one_that_does_not_stop_is_killed(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage("capture", "fuse").up()
    stage.supervisor.stop()
    stage.turn()
    stage["capture"].ends(130)
    stage.turn(KILL_S - 2 * TURN_S)
    assert stage.asked("fuse") == ["go", "stop"]
    stage.turn(1)
    assert stage.asked("fuse") == ["go", "stop", "kill", "close"]
    assert caplog.messages == ["fuse: did not stop within 4 s and was killed"]
    assert stage.report().code == 130


def test_one_that_waits_to_be_started_again_is_not_when_all_are_to_end() -> None:
    stage = Stage("capture", "fuse").up()
    stage["fuse"].ends(KILLED)
    stage.turn()
    stage.supervisor.stop()
    stage.turn()
    stage["capture"].ends(130)
    stage.turn(5)
    assert len(stage.started["fuse"]) == 1
    assert stage.report().code == 130


def test_a_failure_while_stopping_is_told_by_the_exit_code() -> None:
    stage = Stage("capture", "record").up()
    stage.supervisor.stop()
    stage.turn()
    stage["capture"].ends(130)
    stage["record"].ends(5, error="the disk is full")
    stage.turn()
    assert stage.report().code == 5


def test_a_time_is_counted_from_when_all_are_up_and_ends_in_good_order() -> None:
    stage = Stage("capture", "fuse", seconds=5)
    for name in ("capture", "fuse"):
        stage[name].says(mode=LIVE)
    stage["capture"].says(ready=True)
    stage.turn(60)
    assert stage.asked("capture") == ["go"]
    stage["fuse"].says(ready=True)
    stage.turn(4.9)
    assert stage.asked("fuse") == ["go"]
    stage.turn(0.3)
    assert stage.asked("capture") == stage.asked("fuse") == ["go", "stop"]
    for name in ("capture", "fuse"):
        stage[name].ends(130)
    stage.turn()
    assert stage.report().code == 0


def test_live_ones_that_only_follow_end_with_the_last_that_has_a_source() -> None:
    stage = Stage("thermal", "visible", "fuse", follow=["fuse"]).up()
    stage["thermal"].ends(0)
    stage.turn(60)
    assert stage.asked("fuse") == ["go"]
    stage["visible"].ends(0)
    stage.turn(DRAIN_S / 2)
    assert stage.asked("fuse") == ["go"]
    stage.turn(DRAIN_S)
    assert stage.asked("fuse") == ["go", "stop"]
    stage["fuse"].ends(130)
    stage.turn()
    assert stage.report().code == 0


def test_whatever_goes_wrong_in_us_leaves_none_behind() -> None:
    jobs, started = [Job("a", ()), Job("b", ())], []

    def start(job: Job) -> Played:
        if started:
            raise DeviceError("no room for one more process")
        started.append(Played())
        return started[0]

    with pytest.raises(DeviceError):
        Supervisor(jobs, start, lambda *_: None).run()
    assert started[0].asked == ["kill", "close"]
