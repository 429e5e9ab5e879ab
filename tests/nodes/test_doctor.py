"""`run.py doctor` on machines of all kinds, and on this one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import run
from nodes import commands, doctor, nvidia
from nodes.doctor import GIB, Machine, Row
from nodes.fusion import equipment
from pipeline.errors import DeviceError
from tests.conftest import Command

X86 = (
    "processor: 0\nmodel name: Bright Core 9\nflags: fpu avx2 avx512f avx512_bf16\n\nprocessor: 1\nmodel name: other\n"
)
ARM = "processor : 0\nFeatures : fp asimd sve bf16\n"


def told_of_gpu(what: str, why_not: str | None) -> nvidia.Told:
    return nvidia.told(what, why_not, "H.264 works", "use the CPU")


class Fake(Machine):
    """A machine that has what a pipeline wants, but for what a test takes away."""

    def __init__(self, root: Path, **has: Any) -> None:
        super().__init__(root)
        self.has = {
            **{"cores": 8, "tick_s": 1e-9, "is_synchronised": True, "most_files": 4096},
            **{"zeromq": ("4.3.5", True), "disk": (Path("/out"), 100 * GIB, True), "driver": "550.54"},
            **{"lacks": (), "shut": (), "gpu_video": [told_of_gpu("CUDA decoding", None), told_of_gpu("NVENC", None)]},
            **has,
        }
        for name in ("cores", "tick_s", "is_synchronised", "most_files", "zeromq", "disk", "driver", "gpu_video"):
            setattr(self, name, lambda name=name: self.has[name])
        write(root, "proc/cpuinfo", X86)
        write(root, "proc/meminfo", "MemTotal: 33554432 kB\nMemAvailable: 16777216 kB")

    def opens(self, codec: str, mode: str) -> bool:
        return codec not in self.has["lacks"]

    def speaks(self, protocol: str) -> bool:
        return protocol not in self.has["lacks"]

    def may_open(self, device: Path) -> bool:
        return device.name not in self.has["shut"]


def write(root: Path, path: str, text: str = "") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def plug(root: Path, number: int, name: str, index: int = 0) -> None:
    write(root, f"dev/video{number}")
    write(root, f"sys/class/video4linux/video{number}/name", f"{name}\n")
    write(root, f"sys/class/video4linux/video{number}/index", f"{index}\n")


def facts(**more: Any) -> dict[str, Any]:
    """Of torch on a GPU."""
    gpu = {"name": "Large GPU", "memory": 80 * GIB, "capability": "9.0"}
    return {
        **{"torch": "2.13.0", "threads": 8, "device": "cuda", "precision": "bf16", "cuda_build": "13.0"},
        **{"gpus": [gpu], "fault": None, "cupy": {"version": "14.0", "fault": None}},
        **more,
    }


ON_CPU: dict[str, Any] = {"device": "cpu", "gpus": [], "cupy": {"version": None, "fault": None}}


def told(driver: str = "550.54", cores: int = 8, **more: Any) -> dict[str, Row]:
    return {row[0]: Row(*row) for row in equipment.tell(facts(**more), cores, driver)}


def rows_of(machine: Machine, torch: dict[str, Any] | None = None) -> dict[str, Row]:
    rows = doctor.examine(machine, torch and equipment.tell(torch, machine.cores(), machine.driver()))
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        assert (row.state == "ok") == (row.remedy == ""), row
        assert row.found, row
    return {row.name: row for row in rows}


def test_a_machine_with_everything_has_nothing_to_be_done(tmp_path: Path) -> None:
    plug(tmp_path, 0, "Boson")
    rows = rows_of(Fake(tmp_path), facts())
    assert {row.state for row in rows.values()} == {"ok"}
    assert rows["CPU"].found == "Bright Core 9, 8 cores"
    assert rows["instructions"].found == "AVX2, AVX-512, AVX-512 bf16"
    assert rows["memory"].found == "32.0 GiB, 16.0 GiB of it free"
    assert rows["CUDA"].found == "Large GPU, 80 GiB, compute capability 9.0, driver 550.54"
    assert rows["camera /dev/video0"].found == "Boson"
    assert rows["streams"].found == "rtsp, rtmp, srt, udp"
    doctor.refuse_broken(rows.values())


def test_a_machine_with_next_to_nothing_is_told_what_to_do_about_each_thing_and_may_go_on(tmp_path: Path) -> None:
    machine = Fake(
        tmp_path,
        **{"cores": 1, "is_synchronised": False, "most_files": 256, "zeromq": ("4.1", False), "driver": ""},
        **{"disk": (Path("/out"), 5, True), "lacks": ("srt", "libx264", "hevc", "ffv1")},
        gpu_video=[told_of_gpu(what, nvidia.NO_DRIVER) for what in ("CUDA decoding", "NVENC")],
    )
    write(tmp_path, "proc/cpuinfo", "model name: Old Core")
    write(tmp_path, "proc/meminfo", "")
    rows = rows_of(machine)
    assert {row.name for row in rows.values() if row.state == "ok"} == {"system", "H.264 decoder", "monotonic clock"}
    assert {row.name for row in rows.values() if row.state == "missing"} == {
        *("torch", "CUDA", "cameras", "H.264 encoder", "lossless video", "H.265 decoder"),
        *("CUDA decoding", "NVENC"),
    }
    assert rows["streams"].found == "rtsp, rtmp, udp; not srt"
    assert "ulimit -n" in rows["open files"].remedy
    doctor.refuse_broken(rows.values())


@pytest.mark.parametrize(
    ("lack", "named"), [({"tick_s": 0.015}, "monotonic clock: counts by 15 ms"), ({"lacks": ["h264"]}, "H.264 decoder")]
)
def test_what_everything_needs_is_refused_without(tmp_path: Path, lack: dict[str, Any], named: str) -> None:
    rows = rows_of(Fake(tmp_path, **lack), facts())
    with pytest.raises(DeviceError, match=named):
        doctor.refuse_broken(rows.values())


def test_the_instructions_of_an_arm_processor_are_known(tmp_path: Path) -> None:
    machine = Fake(tmp_path)
    write(tmp_path, "proc/cpuinfo", ARM)
    assert rows_of(machine)["instructions"] == Row("instructions", "ok", "NEON, SVE, bf16")


def test_in_a_container_its_own_limits_count(tmp_path: Path) -> None:
    machine = Fake(tmp_path)
    write(tmp_path, "sys/fs/cgroup/memory.max", f"{3 * GIB}\n")
    write(tmp_path, "sys/fs/cgroup/memory.current", f"{2 * GIB}\n")
    row = rows_of(machine)["memory"]
    assert (row.state, row.found) == ("warning", "3.0 GiB, 1.0 GiB of it free")
    write(tmp_path, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    assert Machine(tmp_path).cores() == 1
    write(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000\n")
    write(tmp_path, "sys/fs/cgroup/memory.max", "max\n")
    assert Machine(tmp_path).cores() >= 1
    assert rows_of(machine)["memory"].found == "32.0 GiB, 16.0 GiB of it free"


def test_cameras_are_listed_in_order_with_their_names_and_without_their_other_devices(tmp_path: Path) -> None:
    plug(tmp_path, 10, "Boson")
    plug(tmp_path, 2, "Webcam")
    plug(tmp_path, 3, "Webcam", index=1)
    write(tmp_path, "dev/video-dec0")
    write(tmp_path, "dev/video11")
    rows = rows_of(Fake(tmp_path, shut=["video10"]))
    seen = [(row.name, row.state, row.found) for row in rows.values() if row.name.startswith("camera")]
    assert seen == [
        ("camera /dev/video2", "ok", "Webcam"),
        ("camera /dev/video10", "warning", "Boson; may not be opened"),
        ("camera /dev/video11", "ok", "has no name"),
    ]
    assert "usermod -aG video" in rows["camera /dev/video10"].remedy


def test_a_folder_that_may_not_be_written_to_is_said_before_one_that_is_full(tmp_path: Path) -> None:
    row = rows_of(Fake(tmp_path, disk=(Path("/out"), 5, False)))["disk"]
    assert row.state == "warning"
    assert row.found == "/out: 0.0 GiB free, may not be written to"


def test_a_clock_of_which_nothing_is_known_is_not_called_right(tmp_path: Path) -> None:
    row = rows_of(Fake(tmp_path, is_synchronised=None))["clock of the day"]
    assert (row.state, row.found) == ("warning", "cannot be told")


def test_no_limit_of_files_is_fine(tmp_path: Path) -> None:
    assert rows_of(Fake(tmp_path, most_files=-1))["open files"] == Row("open files", "ok", "no limit")


def test_without_torch_a_driver_is_told_of_all_the_same(tmp_path: Path) -> None:
    rows = rows_of(Fake(tmp_path))
    assert rows["torch"].state == "missing"
    assert rows["CUDA"].found == "driver 550.54, no torch to use it"


def test_a_precision_without_instructions_of_its_own_is_a_warning() -> None:
    rows = told(**ON_CPU, precision="fp32")
    assert (rows["precision"].state, rows["precision"].found) == ("warning", "fp32 on the CPU")
    assert told(**ON_CPU)["precision"] == Row("precision", "ok", "bf16 on the CPU")
    assert told()["precision"].found == "bf16 on CUDA"


def test_threads_that_leave_cores_idle_are_a_warning_unless_a_gpu_does_the_work() -> None:
    row = told(**ON_CPU, threads=1)["torch"]
    assert (row.state, row.found) == ("warning", "2.13.0, 1 thread")
    assert "OMP_NUM_THREADS=8" in row.remedy
    assert told(threads=1)["torch"].state == "ok"


@pytest.mark.parametrize(
    ("driver", "more", "state", "found"),
    [
        ("", {}, "missing", "no NVIDIA driver"),
        ("550.54", {"cuda_build": None}, "warning", "driver 550.54, but this torch is a build for CPUs only"),
        ("390.1", {"fault": "driver too old"}, "warning", "driver 390.1, CUDA 13.0: driver too old"),
        ("550.54", {}, "warning", "driver 550.54, CUDA 13.0: torch finds no GPU"),
    ],
)
def test_why_cuda_cannot_be_used_is_said(driver: str, more: dict[str, Any], state: str, found: str) -> None:
    rows = told(driver, **ON_CPU, **more)
    assert (rows["CUDA"].state, rows["CUDA"].found) == (state, found)
    assert rows["CuPy"] == Row("CuPy", "missing", "not installed", "of use with CUDA only")


def test_a_cupy_that_does_not_load_says_why() -> None:
    row = told(cupy={"version": None, "fault": "libcudart.so.13 is not there"})["CuPy"]
    assert (row.state, row.found) == ("missing", "libcudart.so.13 is not there")
    assert ".[cuda]" in row.remedy


def test_a_gpu_that_fails_when_asked_is_a_fault_and_not_a_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> list[Any]:
        raise RuntimeError("CUDA error: an illegal access\nand much more")

    monkeypatch.setattr(equipment, "list_gpus", fails)
    found = equipment.look()
    assert (found["device"], found["gpus"], found["fault"]) == ("cpu", [], "CUDA error: an illegal access")


def test_the_driver_is_read_from_where_nvidia_writes_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert machine.driver() == ""
    version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22\nGCC version: 12.2.0\n"
    write(tmp_path, "proc/driver/nvidia/version", version)
    assert machine.driver() == "550.54.14"


def test_this_machine_is_asked_for_real(tmp_path: Path) -> None:
    machine = Machine(results=tmp_path / "not" / "yet")
    assert machine.opens("libx264", "w")
    assert machine.opens("h264", "r")
    assert [row[0] for row in machine.gpu_video()] == ["CUDA decoding", "NVENC"]
    assert not machine.opens("no_such_codec", "w")
    assert machine.speaks("udp")
    assert not machine.speaks("nonsense")
    assert machine.is_synchronised() in (True, False, None)
    assert 0 < machine.tick_s() < 1
    folder, free, writable = machine.disk()
    assert (folder, writable) == (tmp_path, True)
    assert free > 0
    assert machine.may_open(tmp_path)
    assert machine.most_files() == -1 or machine.most_files() > 0
    assert machine.zeromq()[0].count(".") == 2
    assert machine.cores() <= (os.cpu_count() or 1)


def test_the_table_puts_what_to_do_below_what_was_found() -> None:
    rows = [Row("CPU", "ok", "fast"), Row("a longer name", "missing", "nothing", "buy one")]
    lines = ["ok       CPU            fast", "missing  a longer name  nothing", "                        -> buy one"]
    assert doctor.table(rows).splitlines() == lines


def test_the_command_lists_this_machine(command: Command) -> None:
    outcome = command("doctor")
    assert (outcome.code, outcome.err) == (0, "")
    assert "ok       H.264 decoder" in outcome.out


def test_the_command_writes_json(command: Command, tmp_path: Path) -> None:
    outcome = command("doctor", "--json", "-")
    rows = json.loads(outcome.out)
    assert {row["state"] for row in rows} <= {"ok", "missing", "warning"}
    assert {"CPU", "torch", "precision", "CUDA", "disk", "ZeroMQ"} <= {row["name"] for row in rows}
    assert command("doctor", "--json", tmp_path / "rows.json").out
    assert [row["name"] for row in json.loads((tmp_path / "rows.json").read_text())] == [row["name"] for row in rows]


def test_the_command_does_without_torch(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nodes.fusion.equipment", None)
    outcome = command("doctor")
    assert outcome.code == 0
    assert "missing  torch" in outcome.out


def test_the_command_fails_when_nothing_can_work_and_tells_all_first(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine, "tick_s", lambda _: 0.015)
    outcome = command("doctor")
    assert outcome.code == 4
    assert "monotonic clock" in outcome.error
    assert "warning  monotonic clock" in outcome.out


def test_every_command_that_has_words_does_something() -> None:
    listed = commands.make_parser().format_help().partition("COMMAND\n")[2].partition("\n\n")[0]
    names = {line.split()[0] for line in listed.splitlines() if line[4:5].strip()}
    assert names == set(run.COMMANDS)
