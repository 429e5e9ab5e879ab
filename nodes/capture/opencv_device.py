"""Cameras through OpenCV: where there is no V4L2 (macOS, Windows), or none that `v4l2.py` works with."""

from __future__ import annotations

import contextlib
import errno
import threading
from fractions import Fraction
from typing import Any

import cv2

from nodes.capture.device import Mode, Setting, Setup, Shot, Size

PROPERTIES = {"exposure": cv2.CAP_PROP_EXPOSURE, "auto_exposure": cv2.CAP_PROP_AUTO_EXPOSURE, "gain": cv2.CAP_PROP_GAIN}
LEAVE_S = 0.5


class OpenCvDevice:
    """An open camera; see `nodes.capture.device.Device`. Pictures are BGR of 8 bits, without a time and uncounted.

    OpenCV's reading blocks for as long as the system likes. So a thread reads, and the newest picture waits for us;
    one that is stuck is left behind.

    Args:
        source: number or path of the camera.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, source: int | str) -> None:
        self._capture = cv2.VideoCapture(source)
        if not self._capture.isOpened():
            self._capture.release()
            raise OSError(errno.ENODEV, "OpenCV cannot open it")
        self.name = f"camera {source} through OpenCV"
        self._changed = threading.Condition()
        self._newest: Any = None
        self._ended = False
        self._thread: threading.Thread | None = None

    def modes(self) -> list[Mode]:
        return []

    def settings(self) -> dict[str, Setting]:
        limits = -(1 << 31), 1 << 31, 1
        return {name: Setting(*limits, int(self._capture.get(key))) for name, key in PROPERTIES.items()}

    def set(self, name: str, value: int) -> None:
        if not self._capture.set(PROPERTIES[name], value):
            raise OSError(errno.EINVAL, f"OpenCV cannot set {name}")

    def start(self, fourcc: str | None, size: Size | None, fps: float | None) -> Setup:
        for key, value in ((3, size and size[0]), (4, size and size[1]), (5, fps)):  # CAP_PROP_FRAME_WIDTH, ...
            if value:
                self._capture.set(key, value)
        given, first = self._capture.read()
        if not given:
            raise OSError(errno.EIO, "OpenCV opened it, and gets no picture")
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        height, width = first.shape[:2]
        self._thread = threading.Thread(target=self._read_on, name="camera reader", daemon=True)
        self._thread.start()
        frame_rate = Fraction(rate).limit_denominator(1001) if rate > 0 else None
        return Setup("BGR3", (width, height), width * 3, "full", "bt601", frame_rate)

    def _read_on(self) -> None:
        while not self._ended:
            given, picture = self._capture.read()
            with self._changed:
                self._newest = picture if given else None
                self._ended |= not given
                self._changed.notify()
        self._capture.release()

    def read(self, timeout_s: float) -> Shot | None:
        with self._changed:
            if self._newest is None and not self._ended:
                self._changed.wait(timeout_s)
            picture, self._newest = self._newest, None
            if picture is None and self._ended:
                raise OSError(errno.ENODEV, "gives no more pictures")
        return None if picture is None else Shot(picture.tobytes())

    def close(self) -> None:
        with self._changed:
            self._ended = True
        if self._thread is None:
            self._capture.release()
            return
        with contextlib.suppress(RuntimeError):
            self._thread.join(LEAVE_S)
