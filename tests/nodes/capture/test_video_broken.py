"""capture.video: what is broken, what only looks so, and what is no video at all."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from nodes.capture.video import VideoCapture
from pipeline.errors import ConfigError, SourceError
from tests.nodes.capture.media import (
    add_audio,
    make_picture,
    make_video,
    read,
    read_whole,
    times_ms,
)


def cut(path: Path, share: float) -> None:
    """Leave the first part of a file, ending in the middle of a packet of MPEG-TS."""
    size = int(path.stat().st_size * share)
    os.truncate(path, size - size % 188 + 100)


def hurt(path: Path, size: int = 600) -> None:
    """Zeros in the middle of a file."""
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + size] = bytes(size)
    path.write_bytes(data)


# Whole files that look as if something were missing


def test_an_edit_list_that_hides_the_start_is_no_loss(tmp_path: Path) -> None:
    make_video(tmp_path / "whole.mp4", 30, b_frames=2)
    with av.open(str(tmp_path / "whole.mp4")) as source, av.open(str(tmp_path / "trimmed.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                shift = round(Fraction(11, 25) / packet.time_base)  # the first 11 frames come before zero
                packet.pts, packet.dts, packet.stream = packet.pts - shift, packet.dts - shift, stream
                target.mux(packet)
    frames = read_whole(tmp_path / "trimmed.mp4")
    assert times_ms(frames) == [40 * number for number in range(19)]


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_a_slow_recording_is_whole(tmp_path: Path, name: str) -> None:
    make_video(tmp_path / name, 4, rate=1)
    assert np.diff(times_ms(read_whole(tmp_path / name))).tolist() == [1000] * 3


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.flv"])
def test_longer_sound_is_no_loss(tmp_path: Path, name: str) -> None:
    with av.open(str(tmp_path / name), "w") as container:
        stream, sound = container.add_stream("libx264", rate=25), container.add_stream("aac", rate=48_000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(5):
            picture = make_picture(number, "yuv420p", (64, 48))
            picture.pts, picture.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
        add_audio(container, sound, seconds=3)
    assert len(read_whole(tmp_path / name)) == 5


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts", "a.nut"])
def test_one_frame_is_a_video(tmp_path: Path, name: str) -> None:
    make_video(tmp_path / name, 1)
    assert len(read_whole(tmp_path / name)) == 1


# Broken files


@pytest.mark.parametrize("b_frames", [0, 2])
def test_half_an_mp4_gives_what_is_there_and_then_the_count(tmp_path: Path, b_frames: int) -> None:
    path = tmp_path / "a.mp4"
    make_video(path, 60, container_options={"movflags": "faststart"}, b_frames=b_frames)
    whole = read_whole(path)
    cut(path, 0.5)
    frames, _, error = read(path)
    assert 20 < len(frames) < 40
    assert str(error) == f"{path}: cut short or damaged: {len(frames)} of 60 frames could be read"
    assert isinstance(error, SourceError)
    assert all(np.array_equal(a.data, b.data) for a, b in zip(frames[:-1], whole, strict=False))


def test_an_mp4_that_lacks_only_its_last_frame_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make_video(path, 20, codec="mpeg4", container_options={"movflags": "faststart"})
    with av.open(str(path)) as container:
        last = [packet for packet in container.demux() if packet.size][-1]
        end = last.pos
    os.truncate(path, end)
    frames, _, error = read(path)
    assert len(frames) == 19
    assert "19 of 20 frames could be read" in str(error)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_part_of_an_mkv_gives_what_is_there_and_then_the_count(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.mkv"
    make_video(path, 60)
    cut(path, share)
    frames, _, error = read(path)
    assert 60 * share - 8 < len(frames) < 60 * share + 4
    assert f"cut short: {len(frames) / 25:.2f} s of 2.40 s, {len(frames)} frames could be read" in str(error)


def test_a_part_of_an_mpeg_ts_gives_what_is_there_and_then_the_count(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    make_video(path, 60)
    cut(path, 0.5)
    frames, _, error = read(path)
    assert 20 < len(frames) < 40
    assert f"cut short in the middle of a packet; {len(frames)} frames could be read" in str(error)


def test_an_mpeg_ts_cut_between_packets_has_a_damaged_last_frame(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    make_video(path, 60)
    os.truncate(path, path.stat().st_size // 2 // 188 * 188)
    frames, _, error = read(path)
    assert 20 < len(frames) < 40
    assert str(error) == f"{path}: damaged in 1 place; {len(frames)} frames could be read"


def test_an_mp4_cut_before_its_index_at_the_end_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make_video(path, 20)
    cut(path, 0.5)
    frames, _, error = read(path)
    assert not frames
    assert "not a video that can be read, or cut short at its head" in str(error)


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.avi"])
def test_a_file_damaged_in_the_middle_gives_the_rest_and_is_told(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    make_video(path, 60)
    hurt(path)
    frames, _, error = read(path)
    assert 50 < len(frames) <= 60
    assert isinstance(error, SourceError)
    assert "damaged" in str(error)
    assert f"{len(frames)} " in str(error)


def test_damaged_packets_are_left_out_and_counted(tmp_path: Path) -> None:
    make_video(tmp_path / "whole.mkv", 10, "gray16le", codec="ffv1")
    with av.open(str(tmp_path / "whole.mkv")) as source, av.open(str(tmp_path / "a.mkv"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is None:
                continue
            copy = av.Packet(b"no picture" if number in (3, 4) else bytes(packet))
            copy.pts, copy.dts, copy.time_base, copy.stream = packet.pts, packet.dts, packet.time_base, stream
            target.mux(copy)
    frames, _, error = read(tmp_path / "a.mkv")
    assert times_ms(frames) == [0, 40, 80, 200, 240, 280, 320, 360]
    assert str(error) == f"{tmp_path / 'a.mkv'}: damaged in 2 places; 8 frames could be read"


class BreakingOff:
    """A container that cannot be read on after 20 packets."""

    def __init__(self, container: Any) -> None:
        self.container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self.container, name)

    def demux(self, stream: Any) -> Iterator[Any]:
        yield from itertools.islice(self.container.demux(stream), 20)
        raise av.InvalidDataError(1, "no more")


def test_the_frames_that_a_decoder_holds_come_out_where_the_file_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video(tmp_path / "a.mp4", 30, b_frames=2)
    real = av.open
    monkeypatch.setattr(av, "open", lambda *args, **settings: BreakingOff(real(*args, **settings)))
    frames, _, error = read(tmp_path / "a.mp4")
    assert len(frames) == 20
    assert "20 of 30 frames could be read" in str(error)


# What is no video at all


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("text.mp4", b"hello\n" * 200),
        ("text.txt", b"hello\n" * 200),
        ("words.srt", b"1\n00:00:01,000 --> 00:00:02,000\nhello\n\n"),
        ("noise.mp4", np.random.default_rng(0).bytes(100_000)),
        ("empty.mp4", b""),
        ("list.mp4", b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n"),
    ],
)
def test_what_is_no_video_is_told_in_one_line(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    frames, _, error = read(tmp_path / name)
    assert not frames
    assert isinstance(error, SourceError)
    assert str(error).startswith(f"{tmp_path / name}: ")
    assert "video" in str(error)
    assert "\n" not in str(error)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.m4a"), "w") as container:
        add_audio(container, container.add_stream("aac", rate=48_000), seconds=1)
    assert "there is no video in it" in str(read(tmp_path / "a.m4a")[2])


def test_the_cover_of_music_is_no_video(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp3"), "w") as container:
        sound, cover = container.add_stream("libmp3lame", rate=48_000), container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 16, 16, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        container.mux(cover.encode(make_picture(0, "yuvj420p", (16, 16))) + cover.encode(None))
        add_audio(container, sound, seconds=1)
    assert "there is no video in it" in str(read(tmp_path / "a.mp3")[2])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_without_a_frame_is_told(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    frames, _, error = read(path)
    assert not frames
    assert isinstance(error, SourceError)


def test_a_codec_that_cannot_be_decoded_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    make_video(path, 2)
    path.write_bytes(path.read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_QQQQQ/ISO/AVC"))
    assert "its codec is one that cannot be decoded here" in str(read(path)[2])


def test_an_image_named_as_a_video_gives_its_one_frame(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((6, 8), np.uint8))
    (tmp_path / "a.png").rename(tmp_path / "a.mp4")
    (frame,) = read_whole(tmp_path / "a.mp4")
    assert (frame.pixel_format, frame.size) == ("gray8", (8, 6))


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    assert str(read(tmp_path / "a.mp4")[2]) == f"{tmp_path / 'a.mp4'}: there is no such file or folder"


def test_what_is_neither_file_nor_folder_is_told() -> None:
    assert str(read(Path(os.devnull))[2]) == f"{os.devnull}: is neither a file nor a folder"


def test_a_name_too_long_is_told_in_one_line(tmp_path: Path) -> None:
    assert "cannot be read: File name too long" in str(read(tmp_path / ("x" * 300))[2])


def test_a_name_with_a_colon_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(tmp_path / "12:30.mkv", 2)
    monkeypatch.chdir(tmp_path)
    assert len(read_whole(Path("12:30.mkv"))) == 2


@pytest.mark.parametrize("path", ["rtsp://camera/stream", "http://host/a.mp4", "file:///a.mp4"])
def test_an_address_is_no_path(path: str) -> None:
    with pytest.raises(ConfigError, match="this node reads files and folders, not addresses"):
        VideoCapture(Path(path))
