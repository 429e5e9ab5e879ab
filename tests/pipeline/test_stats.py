"""Counts and times of a run, as people read them."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from pipeline.stats import NodeStats, Summary, percentile


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.01, 1), (0.5, 50), (0.95, 95), (0.99, 99), (1, 100)])
def test_a_percentile_is_the_value_at_the_nearest_rank(share, value):
    assert percentile(range(100, 0, -1), share) == value


def test_a_percentile_of_one_value_is_that_value():
    assert [percentile([7.0], share) for share in (0, 0.5, 0.99, 1)] == [7.0] * 4


def test_a_percentile_of_nothing_is_not_a_number():
    assert math.isnan(percentile([], 0.5))


def test_a_node_is_balanced_when_all_it_took_was_handed_on_or_dropped():
    stats = NodeStats(taken=5, emitted=3, dropped=Counter(error=2))
    assert stats.balance() == 0
    stats.emitted = 2
    assert stats.balance() == 1


def test_only_the_last_times_are_kept():
    stats = NodeStats()
    stats.busy_ms.extend(range(5000))
    assert len(stats.busy_ms) == 4096


def summary() -> Summary:
    times = {"p50_ms": 2.0, "p95_ms": 2.5, "p99_ms": 3.25}
    camera = {"source": True, "sink": False, "taken": 9, "emitted": 9, "dropped": {}, "path": "in.mp4", **times}
    dropped = {"infrared surplus": 3, "visible no_partner": 1, "error": 2}
    fuse = {"source": False, "sink": False, "taken": 6, "emitted": 4, "dropped": dropped, **times}
    record = {"source": False, "sink": True, "taken": 4, "emitted": 4, "dropped": {"frame surplus": 1}, **times}
    nodes = {"camera": camera, "fuse": fuse, "record": record | {"path": "out.mp4", "notes": {"bytes_written": 7}}}
    return Summary("recorded", 2.0, nodes, [])


def test_drops_are_summed_by_reason_over_all_nodes_and_inputs():
    assert summary().dropped == {"surplus": 4, "no_partner": 1, "error": 2}


def test_the_summary_says_what_came_of_the_frames_in_one_line_a_node():
    assert summary().lines() == [
        "camera  9 frames <- in.mp4",
        "fuse    4 frames, 3 dropped: infrared surplus, 1 dropped: visible no_partner, 2 dropped: error, 2.0 frames/s, "
        "2.0 ms a frame (p99 3.2)",
        "record  4 frames -> out.mp4, 1 dropped: frame surplus, bytes written 7, 2.0 frames/s, "
        "2.0 ms a frame (p99 3.2)",
    ]


def test_a_run_of_no_time_and_no_frames_has_a_summary_too():
    nothing = {"source": False, "sink": True, "emitted": 0, "dropped": {}, "p50_ms": math.nan, "p99_ms": math.nan}
    assert Summary("recorded", 0.0, {"sink": nothing}, []).lines() == ["sink  0 frames"]
    assert Summary("recorded", 0.0, {}, []).lines() == []
