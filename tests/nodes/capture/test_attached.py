from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nodes.capture import attached as module
from nodes.capture.attached import attached, find
from pipeline.errors import SourceError

Machine = tuple[Path, Path]
Plugging = Callable[..., Machine]


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugging:
    """`plug(video0="Webcam")` is a machine with that camera; names in brackets are no cameras, None may not be read."""

    def do(**cameras: str) -> Machine:
        sysfs, dev = tmp_path / "sys", tmp_path / "dev"
        for folder in (sysfs, dev):
            folder.mkdir()
        for number, name in cameras.items():
            (sysfs / number).mkdir()
            (sysfs / number / "name").write_text(name + "\n")
            (dev / number).touch()

        def looked(path: Path) -> bool | None:
            name = cameras[path.name]
            return None if name.endswith("!") else not name.startswith("(")

        monkeypatch.setattr(module, "is_camera", looked)
        return sysfs, dev

    return do


def test_cameras_are_listed_in_the_order_of_their_numbers_without_what_gives_no_pictures(plug: Plugging) -> None:
    machine = plug(video10="Boson", video2="Webcam", video3="(Webcam metadata)")
    assert [(camera.path.name, camera.name) for camera in attached(*machine)] == [
        ("video2", "Webcam"),
        ("video10", "Boson"),
    ]


@pytest.mark.parametrize("device", [10, "10", "boson", "FLIR"])
def test_a_camera_is_found_by_its_number_or_a_part_of_its_name(plug: Plugging, device: int | str) -> None:
    sysfs, dev = plug(video10="FLIR Boson", video2="Webcam")
    assert find(device, sysfs, dev) == dev / "video10"


def test_a_path_is_taken_as_it_is(plug: Plugging) -> None:
    sysfs, dev = plug(video0="Webcam")
    (dev / "by-id").symlink_to(dev / "video0")
    assert find(str(dev / "by-id"), sysfs, dev) == dev / "by-id"


@pytest.mark.parametrize(
    ("device", "message"),
    [
        (
            7,
            r"camera 7: there is no .*/video7; attached: .*/video0 \(Webcam\), .*/video1 \(Lepton!\), no permis",
        ),
        ("/dev/nothing", r"camera /dev/nothing: there is no /dev/nothing; attached: .*/video0 \(Webcam\)"),
        ("boson", r"camera 'boson': no camera has this in its name; attached: .*/video0 \(Webcam\)"),
        ("e", r"camera 'e': more than one camera has this in its name; attached: .*video0 .*video1 "),
    ],
)
def test_one_that_is_not_there_is_answered_with_those_that_are(plug: Plugging, device: int | str, message: str) -> None:
    machine = plug(video0="Webcam", video1="Lepton!")
    with pytest.raises(SourceError, match=message):
        find(device, *machine)


def test_without_any_camera_it_is_said_how_to_see_one(plug: Plugging) -> None:
    with pytest.raises(SourceError, match="no camera is attached; plug one in, and see that the kernel finds it"):
        find(0, *plug())


def test_a_machine_without_video_devices_has_none(tmp_path: Path) -> None:
    assert attached(tmp_path / "nowhere", tmp_path) == []


def test_a_camera_without_a_name_is_unnamed(plug: Plugging) -> None:
    sysfs, dev = plug(video0="Webcam")
    (sysfs / "video0" / "name").unlink()
    assert str(attached(sysfs, dev)[0]).endswith("video0 (unnamed)")
