"""Clocks: whose monotonic clock a time is on, and another host's times on ours."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from pipeline.clock import StreamClock
from pipeline.frame import Frame
from pipeline.wire import MOST_TEXT, PRESENTATION

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
TIME_NAMESPACE = Path("/proc/self/ns/time")
OLDEST_NS, EARLIEST_NS = 600_000_000_000, -1_000_000_000  # ages that a live frame can have when it arrives


@cache
def clock() -> str:
    """Name of the clock that `time.monotonic_ns` reads: two processes with the same name may compare their times.

    On Linux the clock starts at boot, and a time namespace (time_namespaces(7)) may shift it; so these two name it, and
    a container has its host's name. Elsewhere it is the host's name.
    """
    with suppress(OSError):
        boot = BOOT_ID.read_text(encoding="ascii").strip()
        namespace = ""
        with suppress(OSError):  # kernels before 5.6 have no time namespaces
            namespace = str(TIME_NAMESPACE.readlink())
        return f"{boot} {namespace}".strip()
    return f"host {platform.node()}"[:MOST_TEXT]


class HostTimes:
    """Times of one publisher on this host's clock.

    Times on our clock, and those of recordings, stay as they are. Another host's are shifted by what lies between the
    two clocks, which is fitted to when messages were sent there and arrived here (`StreamClock`); the least time that a
    message is under way cannot be told from it, so they are late by that: well under a millisecond in a local network.

    Args:
        own: name of this host's clock.
    """

    def __init__(self, own: str) -> None:
        self._own, self._name = own, own
        self._fit = StreamClock()
        self._shift_ns = 0
        self._last: tuple[int, int] | None = None  # of the last frame, the publisher's time and ours

    def restart(self) -> None:
        """The publisher has another session: its clock may have another start."""
        self._fit.restart()

    def heard(self, name: str, sent_ns: int, arrived_ns: int) -> None:
        """Take in a message: small ones count as well, they are under way for less.

        Args:
            name: of the clock in its header.
            sent_ns: when it was sent, on the publisher's clock.
            arrived_ns: when it was here, on ours.
        """
        if name != self._name:
            self._name, self._fit, self._last = name, StreamClock(), None
        if name in (self._own, PRESENTATION):
            self._shift_ns = 0
        else:
            self._shift_ns = self._fit.host_ns(sent_ns, arrived_ns) - sent_ns

    def of(self, frame: Frame) -> Frame:
        """The frame of the message that was heard last, with our times. Frames stay in the order they were in."""
        if self._name in (self._own, PRESENTATION):
            return frame
        theirs = frame.timestamp_ns
        ours = theirs + self._shift_ns
        if self._last is not None and theirs > self._last[0]:
            ours = max(ours, self._last[1] + 1)
        self._last = theirs, ours
        return shifted(frame, ours - theirs)

    @property
    def comparable(self) -> bool:
        """Whether the times can be compared with this host's clock: those of recordings cannot."""
        return self._name != PRESENTATION


def shifted(frame: Frame, by_ns: int) -> Frame:
    """The same frame, later by so many nanoseconds, with the times of its sources."""
    fusion = frame.fusion
    if fusion is not None:
        times: Mapping[str, int] = {name: time_ns + by_ns for name, time_ns in fusion.timestamps_ns.items()}
        fusion = replace(fusion, timestamps_ns=times)
    return replace(frame, timestamp_ns=frame.timestamp_ns + by_ns, fusion=fusion)


def believed(frame: Frame, arrived_ns: int) -> Frame:
    """A live frame, without times that none can have: years away, they would upset whoever compares it with others.

    Args:
        frame: with times on this host's clock.
        arrived_ns: when it was here.

    Returns:
        The frame itself, if it is -1 s to 10 min old, and its sources are. Else one with the time of its arrival, and
        for a source that cannot be believed with that of the frame.
    """

    def possible(time_ns: int) -> bool:
        return EARLIEST_NS <= arrived_ns - time_ns <= OLDEST_NS

    fusion = frame.fusion
    sources = fusion.timestamps_ns if fusion is not None else {}
    if possible(frame.timestamp_ns) and all(map(possible, sources.values())):
        return frame
    if not possible(frame.timestamp_ns):
        frame = replace(frame, timestamp_ns=arrived_ns, timestamp_source="arrival")
    if fusion is None:
        return frame
    times = {name: time_ns if possible(time_ns) else frame.timestamp_ns for name, time_ns in sources.items()}
    return replace(frame, fusion=replace(fusion, timestamps_ns=times))
