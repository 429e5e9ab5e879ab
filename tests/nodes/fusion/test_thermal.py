"""The gain of an infrared sensor: all pixels the same way, slowly from frame to frame, and never by much."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from nodes.fusion.thermal import Agc, AgcMode, in_cells, line, sensor_step
from pipeline.errors import ConfigError


def scene(low: int = 20_000, high: int = 21_000) -> np.ndarray:
    """(60, 80) uint16: a slope."""
    return np.linspace(low, high, 60 * 80).reshape(60, 80).astype(np.uint16)


BOUND = 6  # grey levels from frame to frame, the default
FRAME_NS = 33_333_333
SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"

MODES: list[AgcMode] = ["linear", "plateau"]


def texture(shape: tuple[int, int] = (120, 160), spread: float = 200, seed: int = 0) -> np.ndarray:
    """(H, W) float: a landscape around 0 with this standard deviation."""
    rough = np.random.default_rng(seed).standard_normal(shape)
    smooth = cv2.GaussianBlur(rough, (0, 0), 3)
    return smooth * (spread / smooth.std())


def landscape(level: float = 20_000, gain: float = 1, seed: int = 0) -> np.ndarray:
    """(120, 160) uint16, without noise."""
    return np.rint(level + gain * texture(seed=seed)).astype(np.uint16)


def all_counts() -> np.ndarray:
    """(120, 160) uint16: the upper 60 % have every count of 0..4095 somewhere; nothing else yet."""
    counts = np.zeros((120, 160), np.uint16)
    counts[:72] = np.linspace(0, 4095, 72 * 160).reshape(72, 160).astype(np.uint16)
    return counts


def shown(agc: Agc, frames: Iterable[np.ndarray], start: int = 0) -> list[np.ndarray]:
    """What it makes of frames at 30 Hz, as int."""
    return [agc(frame, (start + number) * FRAME_NS).astype(int) for number, frame in enumerate(frames)]


def recording(path: Path) -> list[np.ndarray]:
    """All frames of a grey video, (H, W) each."""
    if not path.exists():
        pytest.skip(f"{path} is not there")
    with av.open(str(path)) as container:
        return [picture.to_ndarray() for picture in container.decode(video=0)]


@pytest.mark.parametrize("mode", MODES)
def test_a_scene_of_any_depth_fills_the_range_and_keeps_its_order(mode: AgcMode) -> None:
    for counts in (scene(), scene(0, 65_535), scene(0, 255).astype(np.uint8)):
        out = Agc(mode)(counts, 0)
        assert out.dtype == np.uint8
        assert out.min() <= 3
        assert out.max() >= 252
        assert np.all(np.diff(out.ravel().astype(int)) >= 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_constant_frame_is_mid_gray(mode: AgcMode, dtype: type) -> None:
    for level in (0, 1, 100, np.iinfo(dtype).max):
        out = Agc(mode)(np.full((60, 80), level, dtype), 0)
        assert set(np.unique(out)) <= {127, 128}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("noise", [0.5, 3, 30, 1000])
def test_noise_of_a_flat_scene_stays_noise_however_strong_it_is(mode: AgcMode, noise: float) -> None:
    random = np.random.default_rng(0)
    flat = np.rint(random.normal(30_000, noise, (120, 160))).astype(np.uint16)
    assert Agc(mode)(flat, 0).std() < 15


def test_plateau_gives_contrast_to_where_the_pixels_are() -> None:
    counts = landscape().astype(int)
    counts[:12] += np.linspace(0, 20_000, 12 * 160).reshape(12, 160).astype(int)  # a tenth is anywhere up to far hotter
    rest = counts[12:]
    linear, plateau = (Agc(mode)(counts.astype(np.uint16), 0)[12:] for mode in MODES)
    assert np.corrcoef(plateau.ravel(), rest.ravel())[0, 1] > 0.9
    assert plateau.std() > 2 * linear.std()


@pytest.mark.parametrize("mode", [*MODES, "fixed"])
def test_a_still_scene_stays_exactly_still(mode: AgcMode) -> None:
    out = shown(Agc(mode, (19_000, 21_000)), [landscape()] * 20)
    assert all(np.array_equal(later, out[0]) for later in out)


@pytest.mark.parametrize("mode", MODES)
def test_the_first_frame_is_right_at_once(mode: AgcMode) -> None:
    first = Agc(mode)(landscape(), 0)
    agc = Agc(mode)
    shown(agc, [landscape(9_000, 3)] * 3)
    agc(np.zeros((4, 4), np.uint16), 4 * FRAME_NS)
    assert np.array_equal(agc(landscape(), 5 * FRAME_NS), first), "after another size"
    agc(np.zeros((120, 160), np.uint8), 6 * FRAME_NS)
    assert np.array_equal(agc(landscape(), 7 * FRAME_NS), first), "after another depth"
    agc(landscape(40_000, 2), 8 * FRAME_NS)
    agc.restart()
    assert np.array_equal(agc(landscape(), 9 * FRAME_NS), first), "when told to"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("most", [1.0, 2.5, 6.0])
def test_no_count_changes_by_more_than_the_bound_whatever_comes_in(mode: AgcMode, most: float) -> None:
    random, frames = np.random.default_rng(1), []
    for _ in range(25):
        frame = all_counts()
        frame[72:] = random.integers(0, 65_536)  # 40 % of the picture are at any level, anew each time
        frames.append(frame)
    out = shown(Agc(mode, damping_s=0.01, most_change=most), frames)
    changes = [np.abs(after[:72] - before[:72]).max() for before, after in pairwise(out)]
    assert max(changes) <= np.ceil(most)
    assert max(changes) > 0


@pytest.mark.parametrize("mode", MODES)
def test_a_hot_object_coming_in_leaves_the_scene_as_it_was(mode: AgcMode) -> None:
    still = landscape()
    hot = still.copy()
    hot[40:64, 60:84] = 60_000  # 3 % of the picture: more than the percentiles leave out
    agc = Agc(mode)
    out = shown(agc, [still, *[hot] * 120])
    rest = hot == still
    assert max(np.abs(after - before)[rest].max() for before, after in pairwise(out)) <= BOUND
    assert np.median(out[0][rest]) - np.median(out[-1][rest]) < 30
    assert out[-1][rest].std() > 0.7 * out[0][rest].std()
    assert out[-1][~rest].min() >= 250
    assert out[1][~rest].min() >= 250


def test_an_object_on_a_constant_background_does_not_black_it_out() -> None:
    still = np.full((120, 160), 20_000, np.uint16)
    hot = still.copy()
    hot[40:50, 60:70] = 30_000
    out = shown(Agc(), [still, *[hot] * 120])
    assert (out[-1][0, 0], out[-1][45, 65]) == (pytest.approx(100, abs=10), 255)


def test_the_table_follows_by_the_clock_and_not_by_the_frame() -> None:
    at_once = []
    for rate in (9, 30):
        agc = Agc(most_change=255)
        agc(all_counts(), 0)
        changed = np.minimum(all_counts(), 2000)
        for number in range(1, rate + 1):
            out = agc(changed, round(number * 1e9 / rate))
        at_once.append(int(out[30, 80]))
    assert at_once[0] == pytest.approx(at_once[1], abs=1)
    before, after = int(Agc()(all_counts(), 0)[30, 80]), int(Agc()(changed, 0)[30, 80])
    assert abs(after - before) > 50
    assert at_once[0] == pytest.approx(before + (after - before) * (1 - np.exp(-1)), abs=2)


def test_a_frame_shown_again_with_its_old_time_changes_nothing() -> None:
    agc = Agc()
    agc(all_counts(), 0)
    first = agc(np.minimum(all_counts(), 2000), FRAME_NS)
    assert all(np.array_equal(agc(np.minimum(all_counts(), 2000), FRAME_NS), first) for _ in range(5))


def test_a_clock_that_is_set_back_does_not_stop_it() -> None:
    agc, changed = Agc(), np.minimum(all_counts(), 2000)
    shown(agc, [all_counts()] * 2, start=1000)
    out = [agc(changed, 0).astype(int), *shown(agc, [changed] * 150, start=1)]
    assert max(np.abs(after - before).max() for before, after in pairwise(out)) <= BOUND
    assert np.abs(out[-1] - Agc()(changed, 0)).max() <= 1


# Steps of the sensor:

STEPS = [(1, 700), (1, -3000), (1.3, 0), (0.7, 9000), (3, -30_000), (1.05, 12_000)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("gain", "offset"), STEPS)
def test_a_step_of_the_sensor_after_frozen_frames_is_not_seen(mode: AgcMode, gain: float, offset: float) -> None:
    random = np.random.default_rng(0)
    still = 20_000 + texture()
    noise = [random.normal(0, 1, still.shape) for _ in range(6)]
    before = [np.rint(still + noise[number]).astype(np.uint16) for number in (0, 1, 2, 2, 2, 2)]
    after = [np.rint(gain * (still + n) + offset).astype(np.uint16) for n in noise[3:]]
    out = shown(Agc(mode), [*before, *after])
    changes = [after - before for before, after in pairwise(out)]
    assert max(abs(change.mean()) for change in changes) < 1
    assert max(np.abs(change).max() for change in changes) <= BOUND


def test_a_step_of_a_sensor_of_8_bits_is_not_seen() -> None:
    still = texture(spread=15)
    frames = [np.rint(90 + still), np.rint(130 + 1.4 * still), np.rint(60 + still)]
    out = shown(Agc(), [frame.astype(np.uint8) for frame in frames])
    for before, after in pairwise(out):
        assert abs((after - before).mean()) < 1
        assert np.abs(after - before).max() <= BOUND


def test_a_step_of_a_constant_picture_is_not_seen() -> None:
    out = shown(Agc(), [np.full((60, 80), level, np.uint16) for level in (20_000, 20_000, 26_000, 3_000)])
    assert all(np.array_equal(later, out[0]) for later in out)


def test_a_step_is_found_though_an_object_comes_in_meanwhile() -> None:
    still = landscape()
    stepped = (still + 2_000).astype(np.uint16)
    stepped[30:70, 40:110] = 40_000  # 15 % of the picture, hot
    first, *later = shown(Agc(), [still, stepped, stepped])
    rest = stepped != 40_000
    assert np.abs(later[0] - first)[rest].max() <= BOUND + 1  # one for the fit
    assert later[0][~rest].min() >= 250


def test_the_flag_of_a_shutter_does_not_upset_the_gain() -> None:
    flag = np.random.default_rng(0).normal(20_700, 2, (120, 160)).astype(np.uint16)
    out = shown(Agc(), [landscape(), *[flag] * 10, landscape(20_400)])
    assert sensor_step(in_cells(landscape()), in_cells(flag), line(65_536, 19_500, 20_500)) is None
    assert np.corrcoef(out[0].ravel(), out[-1].ravel())[0, 1] > 0.9


@pytest.mark.parametrize("speed", [1, 5, 40])
def test_a_camera_that_turns_is_no_step_of_the_sensor(speed: int) -> None:
    wide = np.rint(20_000 + texture((120, 400))).astype(np.uint16)
    table = line(65_536, *np.quantile(wide, (0.01, 0.99)))
    for left in range(0, 240 - speed, max(speed, 12)):
        before, after = wide[:, left : left + 160], wide[:, left + speed : left + speed + 160]
        assert sensor_step(in_cells(before), in_cells(after), table) is None


def test_a_large_object_coming_in_is_no_step_of_the_sensor() -> None:
    still = landscape()
    table = line(65_536, *np.quantile(still, (0.01, 0.99)))
    for rows in (10, 30, 50):
        entered = still.copy()
        entered[:rows] = 30_000
        assert sensor_step(in_cells(still), in_cells(entered), table) is None


def test_noise_alone_is_no_step_of_the_sensor() -> None:
    random = np.random.default_rng(0)
    for noise in (1, 20, 200):
        pair = [np.rint(20_000 + texture() + random.normal(0, noise, (120, 160))).astype(np.uint16) for _ in range(2)]
        table = line(65_536, *np.quantile(pair[0], (0.01, 0.99)))
        assert sensor_step(in_cells(pair[0]), in_cells(pair[1]), table) is None


@pytest.mark.parametrize("mode", MODES)
def test_jumps_of_a_recorded_infrared_camera_are_held_back(mode: AgcMode) -> None:
    # The camera enhances contrast locally, in another way from frame to frame, which no table can undo: the bound
    # holds for most pixels, not for all.
    frames = recording(SHARED / "video" / "gain-jumps" / "infrared.mkv")
    out = shown(Agc(mode), frames)
    jumps = [
        abs(float(after.mean() - before.mean())) for before, after in pairwise(frame.astype(int) for frame in frames)
    ]
    assert max(jumps) > 30
    for before, after in pairwise(out):
        assert np.median(np.abs(after - before)) <= BOUND
        assert abs((after - before).mean()) <= BOUND


def test_the_shutter_in_a_recording_of_16_bits_is_not_seen() -> None:
    frames = recording(SHARED / "thermal16" / "hedgehog.mkv")[20:45]
    agc = Agc()
    out = [agc(frame, round(number * 1e9 / 9)).astype(int) for number, frame in enumerate(frames)]
    levels = [float(np.median(frame)) for frame in frames]
    assert max(abs(after - before) for before, after in pairwise(levels)) > 25, "of a scene that spans 80"
    assert max(abs((after - before).mean()) for before, after in pairwise(out)) < 4, "and not 60"


# Set:


def test_a_fixed_range_is_what_it_says() -> None:
    counts = np.array([[0, 999, 1000, 1500, 2000, 2001, 65_535]], np.uint16)
    agc = Agc("fixed", (1000, 2000))
    for number in range(3):
        assert agc(counts, number * FRAME_NS).tolist() == [[0, 0, 0, 128, 255, 255, 255]]
    stepped = shown(agc, [landscape(1500), landscape(1800)], start=3)  # not undone: a fixed range is for temperatures
    assert stepped[1].mean() - stepped[0].mean() > 50


def test_what_is_set_while_it_runs_comes_without_a_jump() -> None:
    agc, still, out = Agc(), landscape(), []
    changes: list[tuple[str, object]] = [
        ("mode", "plateau"),
        ("damping_s", 0.0),
        ("mode", "fixed"),
        ("range", (19_000, 30_000)),
        ("damping_s", 5.0),
        ("mode", "linear"),
        ("min_span", 5000),
        ("damping_s", 0.2),
    ]
    for name, value in changes:
        setattr(agc, name, value)
        out += shown(agc, [still] * 30, start=len(out))
    assert max(np.abs(after - before).max() for before, after in pairwise(out)) <= BOUND


def test_a_gain_fixed_without_a_range_stays_as_it_is() -> None:
    agc = Agc()
    shown(agc, [all_counts()] * 5)
    agc.mode = "fixed"
    out = shown(agc, [all_counts(), *[np.minimum(all_counts(), 500)] * 50, all_counts()], start=5)
    assert np.array_equal(out[0], out[-1])
    agc.mode = "linear"
    assert np.abs(shown(agc, [all_counts()], start=60)[0] - out[-1]).max() <= BOUND


def test_no_damping_follows_at_once_within_the_bound() -> None:
    agc, changed = Agc(damping_s=0, most_change=255), np.minimum(all_counts(), 2000)
    agc(all_counts(), 0)
    assert np.array_equal(agc(changed, FRAME_NS), Agc()(changed, 0))


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"mode": "fixed"}, "a fixed gain has no range"),
        ({"mode": "fixed", "range": (7, 7)}, r"the range of a gain is \[7, 7\]; legal is low < high"),
        ({"range": (9000, 100)}, r"the range of a gain is \[9000, 100\]"),
    ],
)
def test_a_range_that_is_none_is_refused(settings: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        Agc(**settings)


@pytest.mark.parametrize("counts", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.float32)])
def test_what_are_no_counts_is_refused(counts: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"counts are \(H, W\) uint8 or uint16"):
        Agc()(counts, 0)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (1, 700), (700, 1), (3, 2), (513, 1025)])
def test_any_size_goes_through_the_gain(mode: AgcMode, shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    agc = Agc(mode)
    for number in range(3):
        counts = random.integers(0, 65_536, shape, dtype=np.uint16)
        counts.flags.writeable = False
        assert agc(counts, number * FRAME_NS).shape == shape
