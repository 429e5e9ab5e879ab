"""`deploy/`: what the services and containers are started with is understood, and is what is there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import nodes
import run
from nodes.commands import parse
from pipeline import config
from tests.programs import ROOT

DEPLOY = ROOT / "deploy"
UNITS = DEPLOY / "systemd"
PARTS = ("capture", "fuse", "record")
README = (DEPLOY / "README.md").read_text(encoding="utf-8")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
TOKEN = "0123456789abcdef"


def settings(unit: str) -> dict[str, list[str]]:
    """What stands in a unit, by key."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / unit).read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def trees_of(words: list[str]) -> dict[str, dict[str, Any]]:
    """The nodes that these words of a command line start, which must all be right."""
    options = parse(words)
    everything: dict[str, dict[str, Any]] = {}
    for tree in run.read_trees(options).values():
        config.build(tree, nodes.TYPES)
        everything |= tree
    return everything


def links(tree: dict[str, dict[str, Any]], kind: str) -> set[str]:
    return {node["address"] for node in tree.values() if node["type"] == kind}


# systemd:


def test_the_service_runs_the_program_with_its_config() -> None:
    (command,) = settings("streamfuse@.service")["ExecStart"]
    python, program, *words = shlex.split(command)
    assert (python, program) == ("/opt/streamfuse/.venv/bin/python", "/opt/streamfuse/run.py")
    assert words == ["/etc/streamfuse/%i.yaml", "$OPTIONS"]
    assert parse([word.replace("%i", "fuse") for word in words[:-1]]).command == "run"


def test_the_service_comes_back_after_a_crash_and_not_after_a_stop_or_a_mistake_in_the_config() -> None:
    unit = settings("streamfuse@.service")
    assert unit["Restart"] == ["on-failure"]
    assert unit["SuccessExitStatus"] == ["130"]
    assert unit["RestartPreventExitStatus"] == ["2"]
    assert unit["StartLimitIntervalSec"] == ["0"]
    assert "WatchdogSec" not in unit, "nothing would feed it"


def test_the_target_groups_the_three() -> None:
    (wanted,) = settings("streamfuse.target")["Wants"]
    assert wanted.split() == [f"streamfuse@{part}.service" for part in PARTS]
    assert settings("streamfuse@.service")["PartOf"] == ["streamfuse.target"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    units = tmp_path / "units"
    shutil.copytree(UNITS, units)
    service = units / "streamfuse@.service"
    text = service.read_text(encoding="utf-8").replace("/opt/streamfuse/.venv/bin/python", sys.executable)
    service.write_text(text, encoding="utf-8")
    wanted = [units / "streamfuse.target"]
    for part in PARTS:
        wanted.append(units / f"streamfuse@{part}.service")
        wanted[-1].write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", *map(str, wanted)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    said = [line for line in done.stderr.splitlines() if "streamfuse" in line]
    assert (done.returncode, said) == (0, [])


def test_the_configs_fit_the_service_after_what_the_readme_does_to_them(tmp_path: Path) -> None:
    (script,) = re.findall(r"sudo sed -i '([^']+)' /etc/streamfuse/\*\.yaml", README)
    (writable,) = settings("streamfuse@.service")["StateDirectory"]
    sent, taken = set(), set()
    for part in PARTS:
        path = tmp_path / f"{part}.yaml"
        shutil.copy(ROOT / "configs" / "split_live" / path.name, path)
        subprocess.run(["sed", "-i", script, str(path)], check=True)
        tree = trees_of([str(path)])
        sent |= links(tree, "output.zmq")
        taken |= links(tree, "capture.zmq")
        paths = [node["path"] for node in tree.values() if "path" in node]
        assert all(str(one).startswith(f"/var/lib/{writable}/") for one in paths)
    assert sent == taken
    assert all(address.startswith("ipc:///run/streamfuse/") for address in sent)


# Containers:


def words_of(service: dict[str, Any]) -> list[str]:
    return [re.sub(r"\$\{STREAMFUSE_TOKEN:\?.*\}", TOKEN, word) for word in service["command"]]


def test_every_container_runs_a_config_with_nodes_and_settings_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    trees = {name: trees_of(words_of(service)) for name, service in COMPOSE["services"].items()}
    assert tuple(trees) == PARTS
    sent = set().union(*(links(tree, "output.zmq") for tree in trees.values()))
    taken = set().union(*(links(tree, "capture.zmq") for tree in trees.values()))
    assert sent == taken
    for service in COMPOSE["services"].values():
        assert "links:/run/streamfuse" in service["volumes"]
    assert all(address.startswith("ipc:///run/streamfuse/") for address in sent)
    assert trees["record"]["record"]["path"].startswith("out/"), "which is a volume"


def test_containers_have_no_more_than_they_need() -> None:
    for service in COMPOSE["services"].values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    volumes = {one.partition(":")[0] for service in COMPOSE["services"].values() for one in service["volumes"]}
    assert volumes == set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", PARTS)
def test_a_container_is_healthy_by_what_it_has(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    service = COMPOSE["services"][name]
    mark, python, option, code = service["healthcheck"]["test"]
    assert (mark, python, option) == ("CMD", "python", "-c")
    compile(code, name, "exec")
    tree = trees_of(words_of(service))
    listens = [address.removeprefix("ipc://") for address in links(tree, "output.zmq")]
    page = tree.get("page")
    assert any(f"'{path}'" in code for path in listens) or (page and f":{page['port']}/healthz" in code)


def test_the_image_has_all_that_the_program_needs() -> None:
    copied = {word for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE) for word in line.split()[:-1]}
    assert all((ROOT / name).exists() for name in copied)
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "docs"}
    assert packages | {"run.py", "pyproject.toml", "configs"} <= copied
    user = re.search(r"--uid (\d+)", DOCKERFILE)
    assert user is not None
    assert f"uid={user[1]}" in COMPOSE["volumes"]["links"]["driver_opts"]["o"]


# The page:


def test_every_command_of_the_readme_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lines = [line for line in README.splitlines() if line.startswith("python run.py ")]
    assert len(lines) >= 3
    for line in lines:
        parse(shlex.split(line, comments=True)[2:])


def test_every_file_that_the_readme_names_is_there() -> None:
    for name in re.findall(r"deploy/[\w@./-]+", README):
        assert (ROOT / name).exists(), name
    for name in re.findall(r"`([\w.-]+\.(?:example|yaml))`", README):
        assert list(DEPLOY.rglob(name)) or list((ROOT / "configs" / "split_live").glob(name)), name
