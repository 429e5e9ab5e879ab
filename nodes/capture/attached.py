"""Which cameras are attached to this machine, and which of them is meant."""

from __future__ import annotations

import errno
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from nodes.capture.v4l2 import is_camera
from pipeline.errors import SourceError

SYSFS, DEV = Path("/sys/class/video4linux"), Path("/dev")
PERMISSION = "add your user to the group 'video' (sudo usermod -aG video $USER) and log in again"


@dataclass(frozen=True, slots=True)
class Attached:
    """A camera that the system knows."""

    path: Path
    name: str
    readable: bool
    """False where we have no permission to look."""

    def __str__(self) -> str:
        return f"{self.path} ({self.name})" + ("" if self.readable else ", no permission")


def attached(sysfs: Path | None = None, dev: Path | None = None) -> list[Attached]:
    """All cameras, in the order of their numbers. Nodes of a camera that give no pictures (metadata) are left out.

    Args:
        sysfs: where Linux lists video devices.
        dev: where their files are.
    """
    found = []
    for entry in sorted((sysfs or SYSFS).glob("video*"), key=lambda entry: number_in(entry.name)):
        path = (dev or DEV) / entry.name
        gives = is_camera(path)
        if gives is not False:
            found.append(Attached(path, read(entry / "name") or "unnamed", gives is not None))
    return found


def find(device: int | str, sysfs: Path | None = None, dev: Path | None = None) -> Path:
    """The file of the camera that is meant.

    Args:
        device: a number, a path, or a part of the name, upper or lower case.
        sysfs, dev: as above.

    Raises:
        SourceError: there is none, or more than one; says which there are.
    """
    wanted = str(device)
    if wanted.isdecimal() or wanted.startswith("/"):
        path = Path(wanted) if wanted.startswith("/") else (dev or DEV) / f"video{wanted}"
        if path.exists():
            return path
        raise SourceError(f"camera {wanted}: there is no {path}; {listing(attached(sysfs, dev))}")
    cameras = attached(sysfs, dev)
    meant = [camera for camera in cameras if wanted.lower() in camera.name.lower()]
    if len(meant) == 1:
        return meant[0].path
    how_many = "more than one camera has" if meant else "no camera has"
    raise SourceError(f"camera {wanted!r}: {how_many} this in its name; {listing(meant or cameras)}")


def listing(cameras: list[Attached]) -> str:
    """What there is, and what to do."""
    if cameras:
        return f"attached: {', '.join(map(str, cameras))}; set 'device' to one of them"
    if not sys.platform.startswith("linux"):
        return "cameras are listed on Linux alone; set 'device' to a number, 0 for the first"
    return "no camera is attached; plug one in, and see that the kernel finds it (ls /dev/video*), or use --simulate"


def trouble(error: OSError, path: Path) -> str:
    """Why a camera cannot be opened or started, and what to do."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"{path}: no permission; {PERMISSION}"
    if error.errno == errno.EBUSY:
        return f"{path}: in use by another program; close that one (fuser -v {path} names it)"
    if error.errno in (errno.ENOENT, errno.ENXIO):
        return f"{path}: is not there any more"
    if error.errno in (errno.ENOTTY, errno.EINVAL):
        return f"{path}: is no camera, or its driver does not do what is asked ({error.strerror})"
    if error.errno == errno.ENOSPC:
        return f"{path}: no room on the USB bus; plug it into another port, or ask for a smaller size or fewer fps"
    return f"{path}: {error.strerror or error}"


def number_in(name: str) -> int:
    digits = re.sub(r"\D", "", name)
    return int(digits) if digits else 0


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
