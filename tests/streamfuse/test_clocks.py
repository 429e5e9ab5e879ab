"""Whose clock a time is on, and another host's times on ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.frame import Fusion
from pipeline.wire import PRESENTATION
from streamfuse import clocks
from streamfuse.clocks import HostTimes, clock
from tests.streamfuse.publisher import picture

ROOT = Path(__file__).resolve().parents[2]
MS = 1_000_000
THERE = 5_000_000 * MS  # what the other host's clock is ahead of ours


def test_two_processes_on_one_host_have_the_same_clock() -> None:
    code = "from streamfuse.clocks import clock; print(clock())"
    other = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert other.stdout.strip() == clock()


def test_a_boot_and_a_time_namespace_make_a_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = set()
    for boot, namespace in (("one", "time:[1]"), ("one", "time:[2]"), ("two", "time:[2]"), ("two", None)):
        (tmp_path / boot).write_text(f"{boot}\n")
        link = tmp_path / f"{boot}{namespace}"
        if namespace:
            link.symlink_to(namespace)
        monkeypatch.setattr(clocks, "BOOT_ID", tmp_path / boot)
        monkeypatch.setattr(clocks, "TIME_NAMESPACE", link)
        names.add(clock.__wrapped__())
    assert names == {"one time:[1]", "one time:[2]", "two time:[2]", "two"}


def test_where_the_boot_has_no_name_the_host_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clocks, "BOOT_ID", tmp_path / "nothing")
    monkeypatch.setattr("platform.node", lambda: "thermal-box")
    assert clock.__wrapped__() == "host thermal-box"


@pytest.mark.parametrize("name", ["ours", PRESENTATION])
def test_times_of_this_host_and_of_recordings_stay_as_they_are(name: str) -> None:
    times, frame = HostTimes("ours"), picture(timestamp_ns=7 * MS)
    times.heard(name, 1, 400 * MS)
    assert times.of(frame) is frame
    assert times.comparable == (name == "ours")


def test_times_of_another_host_come_out_on_this_ones_clock_with_those_of_the_sources() -> None:
    times = HostTimes("ours")
    fusion = Fusion("fused", 3 * MS, {"infrared": THERE + 93 * MS, "visible": THERE + 90 * MS})
    times.heard("theirs", THERE + 100 * MS, 100 * MS)
    frame = times.of(picture(timestamp_ns=THERE + 90 * MS, fusion=fusion))
    assert frame.timestamp_ns == 90 * MS
    assert frame.fusion is not None
    assert frame.fusion.timestamps_ns == {"infrared": 93 * MS, "visible": 90 * MS}
    assert frame.fusion.skew_ns == 3 * MS


def test_what_the_network_delays_does_not_make_a_frame_younger() -> None:
    times, found = HostTimes("ours"), []
    for number in range(60):
        sent_ns = number * 33 * MS
        delay_ns = 20 * MS if number % 3 else MS // 2
        times.heard("theirs", THERE + sent_ns, sent_ns + delay_ns)
        frame = times.of(picture(number, timestamp_ns=THERE + sent_ns - 10 * MS))
        found.append(frame.timestamp_ns - (sent_ns - 10 * MS))
    assert all(0 <= off_ns < MS for off_ns in found)


def test_frames_of_another_host_keep_their_order_when_the_network_becomes_faster() -> None:
    times, found = HostTimes("ours"), []
    for number in range(6):
        sent_ns, delay_ns = number * 2 * MS, 40 * MS - number * 7 * MS
        times.heard("theirs", THERE + sent_ns, sent_ns + delay_ns)
        found.append(times.of(picture(number, timestamp_ns=THERE + sent_ns)).timestamp_ns)
    assert found == sorted(set(found))


def test_a_source_that_goes_back_is_not_held_at_the_time_it_had() -> None:
    times = HostTimes("ours")
    for theirs_ms, expected_ms in ((90, 90), (20, 20), (30, 30)):
        times.heard("theirs", THERE + 100 * MS, 100 * MS)
        assert times.of(picture(timestamp_ns=THERE + theirs_ms * MS)).timestamp_ns // MS == expected_ms


def test_a_publisher_that_moved_to_another_host_begins_anew() -> None:
    times = HostTimes("ours")
    times.heard("theirs", THERE, 0)
    times.restart()
    times.heard("another's", 12 * MS, 500 * MS)
    assert times.of(picture(timestamp_ns=10 * MS)).timestamp_ns == 498 * MS


def test_a_host_that_booted_again_begins_anew_under_its_old_name() -> None:
    times = HostTimes("ours")
    times.heard("theirs", THERE, 0)
    times.restart()
    times.heard("theirs", 3 * MS, 90_000 * MS)
    assert times.of(picture(timestamp_ns=1 * MS)).timestamp_ns == 89_998 * MS
