"""What the repository promises to a newcomer: the demo's clip is whole, and the README's examples are true."""

from __future__ import annotations

import re
from pathlib import Path

import av
import pytest
import yaml

import nodes
import run
from pipeline.config import setting_names

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CLIP = ROOT / "configs" / "demo"


@pytest.mark.parametrize("stream", ["infrared", "visible"])
def test_the_bundled_clip_is_five_seconds_of_whole_video(stream: str) -> None:
    with av.open(str(CLIP / f"{stream}.mp4")) as container:
        frames = [(frame.width, frame.height, frame.pts * frame.time_base) for frame in container.decode(video=0)]
    assert len(frames) == 150
    assert {frame[:2] for frame in frames} == {(640, 480)}
    assert [round(time * 30) for _, _, time in frames] == list(range(150))


def test_the_bundled_clip_is_small_and_has_its_notice() -> None:
    assert sum(path.stat().st_size for path in CLIP.glob("*.mp4")) < 3_000_000
    assert "MIT License" in (CLIP / "LICENSE-M3SVD.txt").read_text()


def test_the_demo_is_ready_to_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    assert run.main(["--quiet", "check", "configs/demo.yaml"]) == 0
    assert "ready to run, recorded mode" in capsys.readouterr().out


def test_the_moving_picture_is_there_and_small() -> None:
    picture = ROOT / re.findall(r"!\[.*?\]\((.*?)\)", README)[0]
    assert 0 < picture.stat().st_size < 3_000_000


def test_every_config_in_the_readme_names_nodes_and_settings_that_exist() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert blocks
    for block in blocks:
        for name, settings in yaml.safe_load(block).items():
            known = {"type", "inputs", "queue_size", *setting_names(nodes.find(settings["type"]))}
            assert settings.keys() <= known, name


def test_the_readme_lists_every_node_with_every_setting() -> None:
    for name in nodes.CLASSES:
        row = next(line for line in README.splitlines() if line.startswith(f"| `{name}`"))
        for setting in setting_names(nodes.find(name)):
            assert f"`{setting}`" in row, f"{name}: {setting}"


def test_every_command_in_the_readme_is_one() -> None:
    commands = set(re.findall(r"python run\.py (\w+) ", README))
    assert commands
    with pytest.raises(SystemExit) as end:
        run.main(["--help"])
    assert end.value.code == 0
    for command in commands:
        with pytest.raises(SystemExit) as end:
            run.main([command, "--help"])
        assert end.value.code == 0, command


def test_every_yaml_that_ships_parses() -> None:
    paths = sorted((ROOT / "configs").rglob("*.yaml"))
    assert len(paths) >= 2
    for path in paths:
        assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)
