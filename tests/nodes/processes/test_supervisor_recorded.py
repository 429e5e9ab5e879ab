"""Processes that work on recordings: nothing is started again, and nothing that is not whole looks so."""

from __future__ import annotations

import pytest

from nodes.processes.supervisor import GRACE_S, TURN_S
from pipeline.errors import ConfigError
from tests.nodes.processes.played import KILLED, LIVE, RECORDED, Stage


def test_who_loses_its_publisher_while_all_stop_has_not_failed() -> None:
    stage = Stage("capture", "record", follow=["record"]).up(RECORDED)
    stage.supervisor.stop()
    stage.turn()
    stage["capture"].ends(130)
    stage["record"].ends(3, error="the publisher was stopped")
    stage.turn()
    assert (stage.report().code, stage.report().error) == (130, "")


def test_a_time_for_recordings_is_refused() -> None:
    stage = Stage("capture", "fuse", seconds=5)
    stage["capture"].says(mode=RECORDED)
    stage["fuse"].says(mode=LIVE)
    with pytest.raises(ConfigError, match="--for: capture is not live"):
        stage.turn()


def test_recorded_ones_that_follow_come_to_their_end_by_themselves() -> None:
    stage = Stage("capture", "fuse", follow=["fuse"]).up(RECORDED)
    stage["capture"].ends(0)
    stage.turn(600)
    assert stage.asked("fuse") == ["go"]
    stage["fuse"].ends(0)
    stage.turn()
    assert stage.report().code == 0


def test_after_a_recorded_failure_the_others_have_a_while_to_fail_by_themselves() -> None:
    stage = Stage("capture", "fuse", "record", follow=["fuse", "record"]).up(RECORDED)
    stage["fuse"].ends(4, error="CUDA is out of memory", gave_up=True)
    stage.turn(GRACE_S - 2 * TURN_S)
    assert stage.asked("capture") == stage.asked("record") == ["go"]
    stage.turn(1)
    assert stage.asked("capture") == stage.asked("record") == ["go", "fail"]
    for name in ("capture", "record"):
        stage[name].ends(130)
    stage.turn()
    report = stage.report()
    assert (report.code, report.error) == (4, "fuse: CUDA is out of memory")


def test_what_led_to_a_recorded_failure_is_told_whoever_ends_first() -> None:
    stage = Stage("capture", "fuse", "record", follow=["fuse", "record"]).up(RECORDED)
    stage["record"].ends(3, error="the publisher failed", gave_up=True)
    stage.turn()
    assert stage.asked("capture") == ["go"]
    stage["fuse"].ends(4, error="CUDA is out of memory", gave_up=True)
    stage.turn()
    assert stage.asked("capture") == ["go", "fail"], "at once, for it has nobody to learn it from"
    stage["capture"].ends(130)
    stage.turn()
    report = stage.report()
    assert (report.code, report.error) == (4, "fuse: CUDA is out of memory"), "not what it has led to"


def test_a_recorded_process_that_is_killed_is_not_started_again() -> None:
    stage = Stage("capture", "fuse", follow=["fuse"]).up(RECORDED)
    stage["fuse"].ends(KILLED)
    stage.turn(1)
    assert stage.asked("capture") == ["go", "fail"]
    stage["capture"].ends(130)
    stage.turn()
    report = stage.report()
    assert (report.code, report.error) == (137, "fuse: was killed by SIGKILL")


def test_frames_that_found_no_partner_let_the_others_finish() -> None:
    stage = Stage("fuse", "record", follow=["record"]).up(RECORDED)
    stage["fuse"].ends(6, error="3 frames had no partner", gave_up=False)
    stage.turn(600)
    assert stage.asked("record") == ["go"]
    stage["record"].ends(0)
    stage.turn()
    assert stage.report().code == 6
