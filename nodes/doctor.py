"""For `run.py doctor`: what this machine can do, and what to do about what it cannot."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import zmq

from nodes import nvidia
from pipeline.errors import DeviceError

State = Literal["ok", "missing", "warning"]
Mode = Literal["r", "w"]

GIB = 1 << 30
LEAST_FREE_MEMORY, LEAST_FREE_DISK, LEAST_FILES = 2 * GIB, 10 * GIB, 1024
COARSEST_CLOCK_S = 0.001
# As /proc/cpuinfo has them: of x86, and of ARM.
INSTRUCTIONS = {
    **{"avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "AVX-512 VNNI", "avx512_bf16": "AVX-512 bf16"},
    **{"amx_tile": "AMX", "amx_bf16": "AMX bf16", "asimd": "NEON", "sve": "SVE", "bf16": "bf16"},
}
CODECS: tuple[tuple[str, Mode, str, str], ...] = (  # name, mode, what it is, what to do without
    ("h264", "r", "H.264 decoder", "install PyAV from PyPI: pip install --force-reinstall av"),
    ("hevc", "r", "H.265 decoder", "install PyAV from PyPI, or have the camera send H.264"),
    ("libx264", "w", "H.264 encoder", "install PyAV from PyPI, or record with codec: ffv1"),
    ("ffv1", "w", "lossless video", "install PyAV from PyPI, or record with codec: h264"),
)
PROTOCOLS = ("rtsp", "rtmp", "srt", "udp")
TIME_ERROR = 5  # what adjtimex(2) returns of a clock that nobody keeps right


@dataclass(frozen=True, slots=True)
class Row:
    """One thing of the machine."""

    name: str
    state: State
    found: str
    remedy: str = ""
    """What to do about it, unless it is ok."""
    needed: bool = False
    """Nothing works without it."""


class Machine:
    """Everything that is asked of this machine; a test gives other answers.

    Args:
        root: where /proc, /sys and /dev are.
        results: the folder that recordings go to.
    """

    def __init__(self, root: Path = Path("/"), results: Path = Path("out")) -> None:
        self.root, self.results = root, results

    def read(self, path: str) -> str:
        """Text of a file below the root, "" where there is none."""
        try:
            return (self.root / path).read_text(errors="replace").strip()
        except OSError:
            return ""

    def system(self) -> str:
        return f"Python {platform.python_version()}, {platform.system()} {platform.release()}"

    def cores(self) -> int:
        """That this process may use."""
        count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        quota, _, period = self.read("sys/fs/cgroup/cpu.max").partition(" ")
        return min(count, max(1, int(quota) // int(period))) if quota.isdecimal() else count

    def driver(self) -> str:
        """Version of NVIDIA's, "" where there is none."""
        words = self.read("proc/driver/nvidia/version").partition("\n")[0].split()
        return next((word for word in words if word[0].isdecimal()), "")

    def opens(self, codec: str, mode: Mode) -> bool:
        """Whether a codec is there and works."""
        try:
            context = nvidia.trial_encoder(codec) if mode == "w" else av.CodecContext.create(codec, mode)
            context.open(strict=False)
        except (av.FFmpegError, ValueError):
            return False
        return True

    def gpu_video(self) -> list[tuple[str, State, str, str]]:
        """What NVIDIA's decoder and encoder do, as `nodes.nvidia.tell` tells it."""
        return list(nvidia.tell())

    def speaks(self, protocol: str) -> bool:
        """Whether FFmpeg knows a protocol: it says so, or fails in another way, as nobody is there to speak to."""
        try:
            av.open(f"{protocol}://127.0.0.1:9", timeout=0.05).close()
        except av.error.ProtocolNotFoundError:
            return False
        except av.FFmpegError:
            pass
        return True

    def may_open(self, device: Path) -> bool:
        return os.access(device, os.R_OK | os.W_OK)

    def disk(self) -> tuple[Path, int, bool]:
        """Where results go, or would be made: the folder, bytes free, whether it can be written to."""
        folder = next(path for path in (self.results, *self.results.absolute().parents) if path.is_dir())
        return folder.absolute(), shutil.disk_usage(folder).free, os.access(folder, os.W_OK | os.X_OK)

    def tick_s(self) -> float:
        return time.get_clock_info("monotonic").resolution

    def is_synchronised(self) -> bool | None:
        """Whether something keeps the clock of the day right; None where that cannot be told."""
        try:
            state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))  # struct timex, all 0: only asks
        except (OSError, AttributeError):
            return None
        return None if state < 0 else bool(state != TIME_ERROR)

    def most_files(self) -> int:
        """That this process may have open; -1 for no limit."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def zeromq(self) -> tuple[str, bool]:
        """Version, and whether it can encrypt."""
        return zmq.zmq_version(), zmq.has("curve")


def examine(machine: Machine, equipment: Iterable[tuple[str, State, str, str]] | None) -> list[Row]:
    """All there is to say.

    Args:
        machine: the one to examine.
        equipment: what torch and CUDA can do, as `nodes.fusion.equipment.tell` tells it; None without torch.
    """
    return [
        Row("system", "ok", machine.system()),
        *processor(machine),
        memory(machine),
        *(without_torch(machine) if equipment is None else (Row(*told) for told in equipment)),
        *(codec(machine, *one) for one in CODECS),
        *(Row(*told) for told in machine.gpu_video()),
        protocols(machine),
        *cameras(machine),
        disk(machine),
        *clocks(machine),
        files(machine),
        zeromq(machine),
    ]


def table(rows: Iterable[Row]) -> str:
    """For a person."""
    rows = list(rows)
    wide = max(len(row.name) for row in rows)
    lines = []
    for row in rows:
        lines.append(f"{row.state:7}  {row.name:{wide}}  {row.found}")
        if row.remedy:
            lines.append(f"{'':7}  {'':{wide}}  -> {row.remedy}")
    return "\n".join(lines)


def refuse_broken(rows: Iterable[Row]) -> None:
    """To be called once all is told.

    Raises:
        DeviceError: something is not there without which nothing works.
    """
    broken = [row for row in rows if row.needed and row.state != "ok"]
    if broken:
        what = "; ".join(f"{row.name}: {row.found}" for row in broken)
        raise DeviceError(f"nothing works here without this: {what}; see what to do about it above, or in the JSON")


def processor(machine: Machine) -> Iterator[Row]:
    lines = [line.partition(":") for line in machine.read("proc/cpuinfo").splitlines()]
    known = {key.strip(): value.strip() for key, _, value in reversed(lines)}  # of the first core
    cores, name = machine.cores(), known.get("model name") or platform.machine()
    found = f"{name}, {cores} {'core' if cores == 1 else 'cores'}"
    if cores > 1:
        yield Row("CPU", "ok", found)
    else:
        yield Row("CPU", "warning", found, "capture, network and encoder share one core: give it two or more")
    flags = (known.get("flags") or known.get("Features") or "").split()
    has = [title for flag, title in INSTRUCTIONS.items() if flag in flags]
    if {"avx2", "asimd"} & set(flags):
        yield Row("instructions", "ok", ", ".join(has))
    else:
        remedy = "the networks will be slow: a CPU with AVX2 or NEON, or a GPU, is many times faster"
        yield Row("instructions", "warning", ", ".join(has) or "none that are known", remedy)


def memory(machine: Machine) -> Row:
    lines = (line.split() for line in machine.read("proc/meminfo").splitlines())
    known = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines if len(words) > 1}
    total, free = known.get("MemTotal", 0), known.get("MemAvailable", 0)
    limit = machine.read("sys/fs/cgroup/memory.max")
    if limit.isdecimal() and int(limit) < total:
        used = machine.read("sys/fs/cgroup/memory.current")
        total = int(limit)
        free = min(free, total - int(used) if used.isdecimal() else total)
    if not total:
        return Row("memory", "warning", "cannot be told", "fusing wants 2 GiB or more")
    found = f"{total / GIB:.1f} GiB, {free / GIB:.1f} GiB of it free"
    if free >= LEAST_FREE_MEMORY:
        return Row("memory", "ok", found)
    return Row("memory", "warning", found, "close other programs, or use smaller frames and model: realtime")


def without_torch(machine: Machine) -> Iterator[Row]:
    yield Row("torch", "missing", "cannot be imported", "pip install torch; capture and recording do without it")
    found = f"driver {machine.driver()}, no torch to use it" if machine.driver() else "no NVIDIA driver"
    yield Row("CUDA", "missing", found, "of use with torch only")


def codec(machine: Machine, name: str, mode: Mode, title: str, remedy: str) -> Row:
    if machine.opens(name, mode):
        return Row(title, "ok", name, needed=name == "h264")
    return Row(title, "missing", f"{name} does not open", remedy, needed=name == "h264")


def protocols(machine: Machine) -> Row:
    has = [protocol for protocol in PROTOCOLS if machine.speaks(protocol)]
    lacks = [protocol for protocol in PROTOCOLS if protocol not in has]
    if not lacks:
        return Row("streams", "ok", ", ".join(has))
    remedy = "have the other side speak one that is there, or build PyAV on an FFmpeg that has it"
    return Row("streams", "warning", f"{', '.join(has) or 'none'}; not {', '.join(lacks)}", remedy)


def cameras(machine: Machine) -> Iterator[Row]:
    """Devices that give pictures; a camera has others that tell about it."""
    devices = [path for path in (machine.root / "dev").glob("video*") if path.name[5:].isdecimal()]
    seen = False
    for device in sorted(devices, key=lambda path: int(path.name[5:])):
        about = f"sys/class/video4linux/{device.name}"
        if machine.read(f"{about}/index") not in ("", "0"):
            continue
        seen, title = True, f"camera /dev/{device.name}"
        name = machine.read(f"{about}/name") or "has no name"
        if machine.may_open(device):
            yield Row(title, "ok", name)
        else:
            remedy = "sudo usermod -aG video $USER, and log in again"
            yield Row(title, "warning", f"{name}; may not be opened", remedy)
    if not seen:
        remedy = "plug one in (in a container: --device /dev/video0); network streams and capture.pattern need none"
        yield Row("cameras", "missing", "no /dev/video*", remedy)


def disk(machine: Machine) -> Row:
    folder, free, writable = machine.disk()
    found = f"{folder}: {free / GIB:.1f} GiB free"
    if not writable:
        return Row("disk", "warning", f"{found}, may not be written to", "write elsewhere: path: /another/folder/...")
    if free < LEAST_FREE_DISK:
        return Row("disk", "warning", found, "make room before you record")
    return Row("disk", "ok", found)


def clocks(machine: Machine) -> Iterator[Row]:
    tick_s = machine.tick_s()
    if tick_s <= COARSEST_CLOCK_S:
        yield Row("monotonic clock", "ok", f"counts by {tick_s * 1e9:.0f} ns", needed=True)
    else:
        remedy = "timestamps need 1 ms or better: see /sys/devices/system/clocksource/clocksource0/current_clocksource"
        yield Row("monotonic clock", "warning", f"counts by {tick_s * 1e3:.0f} ms", remedy, needed=True)
    synchronised, title = machine.is_synchronised(), "clock of the day"
    if synchronised:
        yield Row(title, "ok", "synchronised")
    else:
        found = "cannot be told" if synchronised is None else "not synchronised"
        yield Row(title, "warning", found, "sudo timedatectl set-ntp true; matters between hosts only")


def files(machine: Machine) -> Row:
    most = machine.most_files()
    if most < 0 or most >= LEAST_FILES:
        return Row("open files", "ok", f"up to {most}" if most >= 0 else "no limit")
    return Row("open files", "warning", f"up to {most}", f"ulimit -n {4 * LEAST_FILES}, before you start")


def zeromq(machine: Machine) -> Row:
    version, curve = machine.zeromq()
    if curve:
        return Row("ZeroMQ", "ok", f"{version}, with CURVE")
    remedy = "it cannot encrypt between hosts: install pyzmq from PyPI"
    return Row("ZeroMQ", "warning", f"{version}, without CURVE", remedy)
