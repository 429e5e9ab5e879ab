"""From the paths of a command line to the tree that a config would give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import nodes
from nodes import shorthand
from nodes.addresses import Source, source_of
from nodes.commands import parse
from pipeline import config
from pipeline.errors import ConfigError, SourceError
from tests import media
from tests.conftest import Command


def tree(*paths: Source, task: str = "infrared") -> shorthand.Tree:
    """Of the sources, and the output last."""
    return shorthand.tree(paths[:-1], paths[-1], {"task": task}, fps=12.5, codec="h264")


@pytest.mark.parametrize(("task", "names"), media.TASK_INPUTS)
def test_the_sources_are_the_tasks_inputs_in_their_order(tmp_path: Path, task: str, names: tuple[str, str]) -> None:
    first, second = media.write_folders(tmp_path, ["1"])
    made = tree(first, second, tmp_path / "out", task=task)
    assert list(made) == [*names, "fuse", "output"]
    assert [made[name]["path"] for name in names] == [str(first), str(second)]
    assert made["fuse"] == {"type": "fusion.fuse", "inputs": {name: name for name in names}, "task": task}


def test_three_exposures_are_under_middle_and_over(tmp_path: Path) -> None:
    paths = [media.write_image(tmp_path / f"{name}.png", media.scene()) for name in "abc"]
    made = tree(*paths, tmp_path / "out.png", task="exposure")
    names = ["under", "middle", "over"]
    assert list(made) == [*names, "fuse", "output"]
    assert [made[name]["path"] for name in names] == [str(path) for path in paths]
    wanted = {"inputs": {name: name for name in names}, "task": "exposure", "exposures": 3}
    assert made["fuse"] == {"type": "fusion.fuse", **wanted}
    assert config.build(made, nodes.TYPES).mode == "recorded"


@pytest.mark.parametrize("task", ["infrared", "focus", "medical"])
def test_a_third_source_is_for_exposures_alone(tmp_path: Path, task: str) -> None:
    paths = [*media.write_pair(tmp_path), tmp_path / "third.png"]
    with pytest.raises(ConfigError, match=f"third.png: task '{task}' has two sources; three are for --task exposure"):
        tree(*paths, tmp_path / "out.png", task=task)


def test_the_tree_is_a_config_that_builds(tmp_path: Path) -> None:
    pipeline = config.build(tree(*media.write_pair(tmp_path), tmp_path / "out.png"), nodes.TYPES)
    assert pipeline.mode == "recorded"


KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "images to an image": ("pair", "out.PNG", {"type": "output.images"}),
    "videos to a video": ("videos", "out.mp4", {"type": "output.video", "codec": "h264"}),
    "videos to a folder": ("videos", "out", {"type": "output.images"}),
    "folders to a folder": ("folders", "out", {"type": "output.images"}),
    "folders to a folder with a dot": ("folders", "old.d", {"type": "output.images"}),
    "folders to a video": ("folders", "out.mkv", {"type": "output.video", "codec": "h264"}),
}


def sources(kind: str, folder: Path) -> tuple[Path, Path]:
    if kind == "videos":  # which need not be any: only their names are looked at
        paths = folder / "a.mp4", folder / "b.avi"
        for path in paths:
            path.touch()
        return paths
    return media.write_pair(folder) if kind == "pair" else media.write_folders(folder, ["1"])


@pytest.mark.parametrize(("kind", "name", "output"), KINDS.values(), ids=KINDS.keys())
def test_the_output_is_of_the_kind_that_its_name_says(
    tmp_path: Path, kind: str, name: str, output: dict[str, Any]
) -> None:
    (tmp_path / "old.d").mkdir()
    made = tree(*sources(kind, tmp_path), tmp_path / name)["output"]
    assert made == {"inputs": "fuse", "path": str(tmp_path / name), **output}


@pytest.mark.parametrize(
    ("kind", "name"), [("pair", "out"), ("pair", "out.mp4"), ("videos", "out.png"), ("folders", "out.avi")]
)
def test_an_output_that_does_not_go_with_the_inputs_is_refused(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: .* legal are "):
        tree(*sources(kind, tmp_path), tmp_path / name)


ADDRESSES = ("rtsp://admin:s3cret@camera/1", "http://camera/2?token=s3cret", "udp://:5000")


@pytest.mark.parametrize("text", [*ADDRESSES, "SRT://host:1", "no-such.scheme+1://x"])
def test_a_word_with_a_scheme_is_an_address_and_stays_as_it_is(text: str) -> None:
    assert source_of(text) == text


@pytest.mark.parametrize("text", ["a.mkv", "rtsp:/camera", "://x", "9://x", "folder/a://b", "a b://c", "C:/film.mkv"])
def test_any_other_word_is_a_path(text: str) -> None:
    assert source_of(text) == Path(text)


@pytest.mark.parametrize(
    ("name", "kind"), [("out.mkv", "output.video"), ("out.MP4", "output.video"), ("out", "output.images")]
)
def test_two_addresses_are_live_streams(tmp_path: Path, name: str, kind: str) -> None:
    made = tree(*ADDRESSES[:2], tmp_path / name)
    assert made["infrared"] == {"type": "capture.stream", "url": ADDRESSES[0]}
    assert made["visible"] == {"type": "capture.stream", "url": ADDRESSES[1]}
    assert made["fuse"] == {
        "type": "fusion.fuse",
        "inputs": {"infrared": "infrared", "visible": "visible"},
        "task": "infrared",
    }
    assert made["output"]["type"] == kind
    shorthand.refuse_clashes(made)
    assert config.build(made, nodes.TYPES).mode == "live"


def test_three_addresses_are_three_exposures(tmp_path: Path) -> None:
    made = tree(*ADDRESSES, tmp_path / "out.mkv", task="exposure")
    assert [made[name]["url"] for name in ("under", "middle", "over")] == list(ADDRESSES)
    assert made["fuse"]["exposures"] == 3
    assert config.build(made, nodes.TYPES).mode == "live"


def test_live_and_recorded_do_not_mix(tmp_path: Path) -> None:
    video, folder, gone = sources("videos", tmp_path)[0], sources("folders", tmp_path)[0], tmp_path / "gone.mkv"
    for path in (video, folder, gone):
        for pair in ((ADDRESSES[0], path), (path, ADDRESSES[0])):
            with pytest.raises(ConfigError, match=rf"^rtsp://camera/1 is live, {path} is recorded: all must be live"):
                tree(*pair, tmp_path / "out.mkv")
    with pytest.raises(ConfigError, match=r"^http://camera/2\?\.\.\. is live"):
        tree(video, video, ADDRESSES[1], tmp_path / "out.mkv", task="exposure")


def test_streams_are_not_written_to_an_image_or_to_an_address(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"out.png: .* legal are "):
        tree(*ADDRESSES[:2], tmp_path / "out.png")
    with pytest.raises(ConfigError, match=r"^-o rtsp://camera/1: is an address; give a file or a folder"):
        tree(*ADDRESSES[:2], ADDRESSES[0])


def test_no_mistake_with_addresses_shows_a_password(command: Command, tmp_path: Path) -> None:
    camera, files, out = "rtsp://admin:s3c/r@t@camera/1", media.write_pair(tmp_path), tmp_path / "out.mkv"
    for words, told in (
        (("fuse", camera, files[1], "-o", out), "is live, "),
        (("fuse", camera, camera, camera, "-o", out), "three are for --task exposure"),
        (("fuse", camera, camera, camera, camera, "-o", out), "unrecognized arguments: rtsp://camera/1"),
        (("fuse", camera, camera, "-o", camera), "-o rtsp://camera/1: is an address"),
        (("fuse", camera.replace("rtsp", "ftp"), camera, "-o", out), "cannot work with 'ftp'"),
        (("fuse", camera, camera, "-o", out, "--for", camera), "rtsp://camera/1' is not a number of seconds"),
        (("eval", camera, camera), "no such file"),
        ((camera, camera), "invalid choice: 'rtsp://camera/1'"),
    ):
        outcome = command(*words)
        assert outcome.code in (2, 3)
        assert told in outcome.error
        assert "camera/1" in outcome.error
        assert "admin" not in outcome.err
        assert "t@" not in outcome.err
    assert not out.exists()


def test_recordings_are_read_to_their_end(command: Command, tmp_path: Path) -> None:
    outcome = command("fuse", *media.write_pair(tmp_path), "-o", tmp_path / "out.png", "--for", "1")
    assert outcome.code == 2
    assert "--for: it is for live pipelines" in outcome.error


def test_the_third_address_may_stand_behind_the_options() -> None:
    options = parse(["fuse", *ADDRESSES[:2], "-o", "out.mkv", "--task", "exposure", "--for", "5", ADDRESSES[2]])
    assert (options.first, options.second, options.third) == ADDRESSES
    assert options.output == Path("out.mkv")
    assert options.seconds == 5


def test_inputs_of_two_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is an image, .* is a folder: all must be of one kind"):
        tree(sources("pair", tmp_path)[0], sources("folders", tmp_path)[1], tmp_path / "out")


def test_a_third_input_of_another_kind_is_refused(tmp_path: Path) -> None:
    pair, (folder, _) = sources("pair", tmp_path), sources("folders", tmp_path)
    with pytest.raises(ConfigError, match=r"infrared.png is an image, .*infrared is a folder: .* must be of one kind"):
        tree(*pair, folder, tmp_path / "out.png", task="exposure")
    with pytest.raises(SourceError, match=r"gone.png: there is no such file or folder"):
        tree(*pair, tmp_path / "gone.png", tmp_path / "out.png", task="exposure")


def test_a_third_folder_has_to_pair_too(tmp_path: Path) -> None:
    first, second = media.write_folders(tmp_path, ["1", "2"])
    third, _ = media.write_folders(tmp_path / "more", ["1", "2", "3"])
    with pytest.raises(SourceError, match=r"do not pair: 1 only in .*more/infrared \(the first is '3'\)"):
        tree(first, second, third, tmp_path / "out", task="exposure")
    (third / "3.png").unlink()
    assert "over" in tree(first, second, third, tmp_path / "out", task="exposure")


def test_videos_are_told_from_images(tmp_path: Path) -> None:
    assert shorthand.are_videos(*sources("videos", tmp_path))
    assert shorthand.are_videos(*sources("videos", tmp_path), None)
    for kind in ("pair", "folders"):
        assert not shorthand.are_videos(*sources(kind, tmp_path), None)


def test_a_video_beside_images_is_refused(tmp_path: Path) -> None:
    video, (folder, _) = sources("videos", tmp_path)[0], sources("folders", tmp_path)
    for paths in ([video, folder], [folder, video], [video, None, folder]):
        with pytest.raises(ConfigError, match=r"infrared is a folder, .*a.mp4 is a video: all must be of one kind"):
            shorthand.are_videos(*paths)
    with pytest.raises(SourceError, match=r"gone.mp4: there is no such file"):
        shorthand.are_videos(video, tmp_path / "gone.mp4")


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    first, _ = sources("pair", tmp_path)
    with pytest.raises(SourceError, match=r"gone.png: there is no such file or folder"):
        tree(first, tmp_path / "gone.png", tmp_path / "out.png")
    with pytest.raises(SourceError, match="File name too long"):
        tree(first, tmp_path / ("n" * 300), tmp_path / "out.png")


def test_folders_pair_by_name_whatever_the_format_and_whatever_else_lies_there(tmp_path: Path) -> None:
    infrared, visible = media.write_folders(tmp_path, ["1", "2"])
    (infrared / "1.png").rename(infrared / "1.TIFF")
    (visible / "notes.txt").touch()
    (visible / ".3.png").touch()
    assert "output" in tree(infrared, visible, tmp_path / "out")


def test_folders_that_do_not_pair_are_refused_with_the_first_of_each(tmp_path: Path) -> None:
    infrared, visible = media.write_folders(tmp_path, ["1", "2", "3"])
    (infrared / "2.png").unlink()
    (infrared / "1.png").unlink()
    with pytest.raises(SourceError, match=r"do not pair: 2 only in .*visible \(the first is '1'\); all need the same"):
        tree(infrared, visible, tmp_path / "out")


def test_outputs_may_not_be_written_over_inputs_or_one_another(tmp_path: Path) -> None:
    camera = {"type": "capture.video", "path": str(tmp_path / "a.mkv")}
    save = {"type": "output.video", "path": f"{tmp_path}/./b.mkv"}
    shorthand.refuse_clashes({"camera": camera, "again": camera, "save": save})
    with pytest.raises(ConfigError, match=r"Node 'save' would write over .*, which node 'camera' uses too"):
        shorthand.refuse_clashes({"save": save | {"path": f"{tmp_path}/../{tmp_path.name}/a.mkv"}, "camera": camera})
    with pytest.raises(ConfigError, match="which node 'save' uses too"):
        shorthand.refuse_clashes({"save": save, "more": save | {"path": str(tmp_path / "b.mkv")}})
    shorthand.refuse_clashes({"save": save, "live": {"type": "output.memory", "path": None}, "odd": {"path": 5}})


def test_paths_are_videos_all_or_none(tmp_path: Path) -> None:
    folders, videos = media.write_folders(tmp_path, ["1"]), media.write_recording(tmp_path, 1)
    assert shorthand.are_videos(*videos, None)
    assert not shorthand.are_videos(*folders, None)
    with pytest.raises(ConfigError, match=r"infrared is a folder, \S*visible.mkv is a video: all must be of one kind"):
        shorthand.are_videos(folders[0], videos[1])
    with pytest.raises(SourceError, match="nowhere"):
        shorthand.are_videos(videos[0], tmp_path / "nowhere.mkv")
