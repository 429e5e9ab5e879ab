"""The numbers of output.web: state, rates, ages, history, readiness, and the text for Prometheus."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from nodes.output.web_journal import HISTORY_SECONDS, Journal, finite
from nodes.output.web_metrics import metrics
from pipeline.frame import Frame
from tests.nodes.output.web_fakes import FakeRun, get, picture, served

SECOND = 1_000_000_000
BLACK = np.zeros((2, 2), np.uint8)


def frame_at(at_ns: int, age_ms: float = 20.0, state: str | None = "fused", skew_ms: float = 4.0) -> Frame:
    frame = picture(state=state, skew_ms=skew_ms, data=BLACK)
    object.__setattr__(frame, "timestamp_ns", at_ns - round(age_ms * 1e6))
    return frame


def journal(
    frames: int, rate: float = 30, *, live: bool = True, views: tuple[str, ...] = ("fused",), **how: Any
) -> Journal:
    """So many frames of the first view, from a second on."""
    made = Journal(views, live)
    for number in range(frames):
        at_ns = SECOND + round(number * SECOND / rate)
        made.note(views[0], frame_at(at_ns, **how), at_ns)
    return made


def test_frames_a_second_are_those_of_the_last_seconds() -> None:
    steady = journal(300, rate=30)
    assert steady.fps("fused", 11 * SECOND) == pytest.approx(30, abs=0.3)
    assert steady.fps("fused", round(13.5 * SECOND)) == pytest.approx(15, abs=0.3)
    assert steady.fps("fused", 17 * SECOND) == 0


def test_the_rate_is_right_from_the_second_second_on() -> None:
    assert journal(60, rate=30).fps("fused", 3 * SECOND) == pytest.approx(30, abs=1)
    assert journal(0).fps("fused", 3 * SECOND) == 0


def test_latency_is_the_age_of_frames_as_they_came() -> None:
    seen = Journal(("fused",), live=True)
    for number in range(100):
        at_ns = SECOND + number * SECOND // 50
        seen.note("fused", frame_at(at_ns, age_ms=number + 1), at_ns)
    assert seen.latency_ms(3 * SECOND) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert seen.latency_ms(30 * SECOND) == {"p50": None, "p95": None, "p99": None}


def test_the_age_of_the_output_grows_while_none_comes() -> None:
    seen = journal(1, age_ms=40)
    assert seen.age_ms(SECOND) == pytest.approx(40)
    assert seen.age_ms(3 * SECOND) == pytest.approx(2040)


def test_a_recording_has_no_ages() -> None:
    seen = journal(30, live=False)
    assert seen.latency_ms(2 * SECOND)["p50"] is None
    assert seen.readiness(2 * SECOND).ready
    assert not seen.readiness(5 * SECOND).ready


@pytest.mark.parametrize(
    ("state", "age_ms", "after_s", "ready", "degraded", "reason"),
    [
        ("fused", 30, 0.1, True, False, "ready"),
        (None, 30, 0.1, True, False, "ready"),
        ("held", 30, 0.1, True, False, "ready"),
        ("infrared_only", 30, 0.1, True, True, "degraded: infrared_only, a sensor is lost"),
        ("visible_only", 30, 0.1, True, True, "degraded: visible_only, a sensor is lost"),
        ("fused", 30, 1.9, True, False, "ready"),
        ("fused", 30, 2.0, False, False, "the newest frame of fused is 2.0 s old"),
        ("visible_only", 30, 9.0, False, False, "the newest frame of fused is 9.0 s old"),
        ("fused", 8000, 0.1, False, False, "the newest frame of fused is 8.1 s old"),
    ],
)
def test_ready_is_a_fresh_picture_and_degraded_is_not_dead(
    state: str | None, age_ms: float, after_s: float, ready: bool, degraded: bool, reason: str
) -> None:
    found = journal(1, state=state, age_ms=age_ms).readiness(SECOND + round(after_s * SECOND))
    assert (found.ready, found.degraded, found.reason) == (ready, degraded, reason)


def test_before_the_first_frame_it_is_not_ready() -> None:
    assert journal(0).readiness(SECOND).reason == "no frame of fused came yet"


def test_history_is_a_sample_a_second_of_the_last_five_minutes() -> None:
    seen = Journal(("fused",), live=True)
    for second in range(1, 401):
        now_ns = second * SECOND
        for part in range(10):
            at_ns = now_ns - part * SECOND // 10
            seen.note("fused", frame_at(at_ns, age_ms=second % 50, skew_ms=part), at_ns)
        seen.sample(now_ns, {"thermal": {"drift_ppm": second / 10, "other": 3.0}})
    history = seen.history(400 * SECOND)
    assert history["seconds"] == [float(second) for second in range(1 - HISTORY_SECONDS, 1)]
    assert history["drift_ppm"] == {"thermal": [second / 10 for second in range(101, 401)]}
    assert set(history["skew_ms"]) == {9.0}  # the largest of each second
    assert history["latency_ms"] == [float(second % 50) for second in range(101, 401)]
    assert history["fps"][-1] == pytest.approx(10)
    assert set(history["state"]) == {"fused"}


def test_a_second_without_frames_is_a_gap_in_the_curves() -> None:
    seen = journal(30, rate=30)
    seen.sample(2 * SECOND, {"fuse": {"infrared_drift_ppm": 5.0, "visible_drift_ppm": float("nan")}})
    seen.sample(9 * SECOND, {})
    history = seen.history(9 * SECOND)
    assert history["skew_ms"] == [4.0, None]
    assert history["latency_ms"] == [20.0, None]
    assert history["fps"][1] == 0
    assert history["state"] == ["fused", None]
    assert history["drift_ppm"] == {"fuse infrared": [5.0, None]}


def test_what_json_cannot_say_is_null() -> None:
    assert finite({"a": [float("nan"), (1.0, float("inf"))], 2: "text"}) == {"a": [None, [1.0, None]], "2": "text"}


# As they are asked for:


def test_state_says_how_it_goes() -> None:
    with served(views=("fused", "infrared")) as node:
        before = get(node, "/api/state").json
        assert (before["state"], before["ready"], before["views"]["fused"]["size"]) == (None, False, None)
        node.process(fused=picture(7, state="held", skew_ms=12.5, age_ms=30, pixel_format="bgr24"))
        state = get(node, "/api/state").json
    assert (state["mode"], state["main"], state["state"], state["skew_ms"]) == ("live", "fused", "held", 12.5)
    assert state["age_ms"] >= 30
    assert state["latency_ms"]["p99"] >= 30
    assert (state["ready"], state["degraded"]) == (True, False)
    assert state["views"]["fused"]["size"] == [64, 48]
    assert state["views"]["fused"]["pixel_format"] == "bgr24"
    assert state["views"]["fused"]["fps"] == 1
    assert state["views"]["infrared"]["silent_s"] is None
    assert state["nodes"]["fuse"]["dropped"] == {"infrared no_partner": 2, "error": 1}
    assert state["nodes"]["thermal"]["gauges"]["drift_ppm"] == -12.5
    assert state["nodes"]["thermal"]["p99_ms"] is None  # not a number
    assert state["boot"] == before["boot"]


def test_another_run_is_known_as_such() -> None:
    boots = set()
    for _ in range(2):
        with served() as node:
            boots.add(get(node, "/api/state").json["boot"])
    assert len(boots) == 2


def test_a_frame_that_is_held_does_not_count_as_a_new_one() -> None:
    frame = picture()
    with served() as node:
        for _ in range(10):
            node.process(fused=frame)
        assert get(node, "/api/state").json["views"]["fused"]["fps"] == 1


def test_a_recording_says_so() -> None:
    with served(FakeRun("recorded")) as node:
        node.process(fused=picture())
        state = get(node, "/api/state").json
    assert (state["mode"], state["latency_ms"]["p50"]) == ("recorded", None)


def test_alive_ready_and_degraded_are_three_things() -> None:
    with served() as node:
        assert get(node, "/healthz").status == 200
        answer = get(node, "/readyz")
        assert (answer.status, answer.text) == (503, "no frame of fused came yet\n")
        node.process(fused=picture(state="fused"))
        assert (get(node, "/readyz").status, get(node, "/readyz").text) == (200, "ready\n")
        node.process(fused=picture(state="visible_only"))
        answer = get(node, "/readyz")
        assert (answer.status, answer.text) == (200, "degraded: visible_only, a sensor is lost\n")
        node.process(fused=picture(age_ms=3000))
        assert get(node, "/readyz").status == 503


def test_history_is_served() -> None:
    with served() as node:
        assert get(node, "/api/history").json == {
            **{"seconds": [], "fps": [], "latency_ms": [], "skew_ms": [], "state": [], "drift_ppm": {}}
        }


# For Prometheus:

SAMPLE = re.compile(
    r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\["\\n])*",?)*\})? (-?[0-9.e+-]+)', re.ASCII
)


def parsed(text: str) -> dict[str, float]:
    """Samples by name and labels, with all that the format demands checked."""
    found: dict[str, float] = {}
    family, families = "", []
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in families, "a family stands together"
            families.append(family)
        elif line.startswith("# TYPE "):
            assert line.split()[2] == family
            assert line.split()[3] in ("gauge", "counter")
            assert (line.split()[3] == "counter") == family.endswith("_total")
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == family
            assert match[1].startswith("streamfuse_")
            assert match[1] + (match[2] or "") not in found
            found[match[1] + (match[2] or "")] = float(match[3])
    return found


def test_metrics_are_in_base_units_with_help_and_type() -> None:
    seen = journal(150, rate=30, state="held", skew_ms=8.0, age_ms=50.0)
    found = parsed(metrics(seen, 6 * SECOND, FakeRun().snapshot(), {"fused": 2}))
    assert found["streamfuse_ready"] == 1
    assert found["streamfuse_degraded"] == 0
    assert found['streamfuse_state{state="fused"}'] == 0
    assert found['streamfuse_state{state="held"}'] == 1
    assert found["streamfuse_skew_seconds"] == pytest.approx(0.008)
    assert found['streamfuse_latency_seconds{quantile="0.99"}'] == pytest.approx(0.05)
    assert found['streamfuse_frames_per_second{view="fused"}'] == pytest.approx(30, abs=0.5)
    assert found['streamfuse_watchers{view="fused"}'] == 2
    assert found['streamfuse_frames_taken_total{node="fuse"}'] == 103
    assert found['streamfuse_frames_dropped_total{node="fuse",reason="infrared no_partner"}'] == 2
    assert found['streamfuse_process_seconds{node="fuse",quantile="0.95"}'] == pytest.approx(0.002)
    assert 'streamfuse_process_seconds{node="fuse",quantile="0.99"}' not in found  # not a number yet
    assert found['streamfuse_age_seconds{node="fuse",quantile="0.99"}'] == pytest.approx(0.041)
    assert found['streamfuse_max_skew_seconds{node="fuse"}'] == pytest.approx(0.012)
    assert found['streamfuse_node_drift_ppm{node="thermal"}'] == -12.5
    assert found['streamfuse_node_clock_offset_seconds{node="thermal"}'] == pytest.approx(0.003)


def test_metrics_of_a_lost_sensor_name_its_state() -> None:
    found = parsed(metrics(journal(30, state="infrared_only"), 2 * SECOND, {}, {}))
    assert found['streamfuse_state{state="infrared_only"}'] == 1
    assert found["streamfuse_degraded"] == 1


def test_metrics_before_the_first_frame_are_whole() -> None:
    found = parsed(metrics(journal(0), SECOND, {}, {}))
    assert found["streamfuse_ready"] == 0
    assert not any(name.startswith("streamfuse_output_age") for name in found)


def test_names_that_hold_anything_break_no_line() -> None:
    odd = 'a"b\\c\nd'
    nodes = {odd: FakeRun.node(dropped={odd: 1}, gauges={"per cent%": 3.0})}
    found = parsed(metrics(journal(0), SECOND, nodes, {}))
    assert found[r'streamfuse_frames_dropped_total{node="a\"b\\c\nd",reason="a\"b\\c\nd"}'] == 1
    assert found[r'streamfuse_node_per_cent_{node="a\"b\\c\nd"}'] == 3


def test_metrics_are_served_as_text_of_their_version() -> None:
    with served() as node:
        answer = get(node, "/metrics")
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert parsed(answer.text)['streamfuse_frames_emitted_total{node="fuse"}'] == 100
