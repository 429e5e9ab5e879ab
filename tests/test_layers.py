"""The arrows between the folders: `run -> nodes -> {streamfuse, pipeline, models}`, `streamfuse -> pipeline`, and
nothing the other way."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nodes
from pipeline.node import Node

ROOT = Path(__file__).resolve().parents[1]
SHARED = {
    "nodes.addresses",
    "nodes.nvidia",
    "nodes.outage",
    "nodes.pictures",
    "nodes.tasks",
}  # by several nodes

PIPELINE_MAY = {"numpy", "yaml", "pydantic", "pipeline"}
MODELS_MAY = {"torch", "numpy", "cv2", "yaml", "pydantic", "safetensors", "onnxruntime", "models"}
LINK_MAY = {"numpy", "zmq", "cv2", "streamfuse", "pipeline"}
LINK_MAY_OF_PIPELINE = {f"pipeline.{name}" for name in ("clock", "errors", "frame", "header", "messages", "wire")}
NODES_MAY = {"aiohttp", "numpy", "cv2", "av", "zmq", "pydantic", "tqdm", "nodes", "pipeline", "streamfuse"}
FUSION_MAY = NODES_MAY | {"torch", "cupy", "models"}


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path: Path) -> Iterator[str]:
    """Modules that a file imports anywhere in it, in full."""
    for found in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(found, ast.Import):
            yield from (alias.name for alias in found.names)
        elif isinstance(found, ast.ImportFrom):
            assert found.level == 0, f"{path}: imports are written in full"
            assert found.module is not None
            for alias in found.names:
                inner = f"{found.module}.{alias.name}"
                yield inner if is_module(inner) else found.module


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or (path / "__init__.py").exists()


def foreign(path: Path, allowed: set[str]) -> set[str]:
    """Packages that a file imports and may not."""
    packages = {name.partition(".")[0] for name in imports(path)}
    return packages - allowed - set(sys.stdlib_module_names)


@pytest.mark.parametrize("path", files("pipeline"), ids=module_name)
def test_the_engine_knows_no_camera_no_network_and_no_gpu(path: Path) -> None:
    assert foreign(path, PIPELINE_MAY) == set()


@pytest.mark.parametrize("path", files("models"), ids=module_name)
def test_the_models_know_nothing_of_nodes_and_pipelines(path: Path) -> None:
    assert foreign(path, MODELS_MAY) == set()


@pytest.mark.parametrize("path", files("streamfuse"), ids=module_name)
def test_the_network_link_knows_frames_and_messages_and_no_engine(path: Path) -> None:
    assert foreign(path, LINK_MAY) == set()
    assert {name for name in imports(path) if name.startswith("pipeline")} <= LINK_MAY_OF_PIPELINE


@pytest.mark.parametrize("path", files("nodes"), ids=module_name)
def test_only_the_fusion_nodes_know_torch_and_the_models(path: Path) -> None:
    fusion = path.is_relative_to(ROOT / "nodes" / "fusion")
    assert foreign(path, FUSION_MAY if fusion else NODES_MAY) == set()


@pytest.mark.parametrize("path", files("nodes"), ids=module_name)
def test_no_node_imports_another(path: Path) -> None:
    own = module_name(path)
    others = {name for name in imports(path) if name.partition(".")[0] == "nodes"} - SHARED
    folder, nodes_of_yaml = own.rpartition(".")[0], {f"nodes.{name}" for name in nodes.CLASSES}
    if folder != "nodes":  # files beside a node that are none hold what would make it too long
        others = {name for name in others if not name.startswith(f"{folder}.") or name in nodes_of_yaml}
    assert others == set()


@pytest.mark.parametrize("name", sorted(SHARED))
def test_what_nodes_share_imports_no_node(name: str) -> None:
    path = ROOT.joinpath(*name.split(".")).with_suffix(".py")
    assert not any(module.startswith("nodes") for module in imports(path))


def test_the_command_line_imports_nodes_by_their_name_only() -> None:
    at_once = [found for found in ast.parse((ROOT / "run.py").read_text()).body if isinstance(found, ast.ImportFrom)]
    assert not any(str(found.module).startswith(("models", "nodes.fusion", "torch")) for found in at_once)


BUILDS_WITHOUT_TORCH = """
import sys
import nodes, run
from pipeline import config
tree = {
    "camera": {"type": "capture.video", "path": "camera.mkv"},
    "record": {"type": "output.video", "inputs": "camera", "path": "record.mkv"},
}
config.build(tree, nodes.TYPES)
heavy = {"torch", "models", "safetensors"} & {name.partition(".")[0] for name in sys.modules}
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


def test_a_capture_box_needs_no_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUILDS_WITHOUT_TORCH], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


IMPORTS_THE_CLIENT = """
import sys

class Missing:
    names = {"pydantic", "yaml", "cv2", "av", "torch", "aiohttp", "safetensors", "tqdm"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import streamfuse
import streamfuse.keys
from pipeline import wire
assert callable(streamfuse.subscribe)
foreign = {"nodes", "models", "run"} & {name.partition(".")[0] for name in sys.modules}
sys.exit(f"imported: {foreign}" if foreign else 0)
"""


def test_the_client_needs_pyzmq_and_numpy_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_THE_CLIENT], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", nodes.CLASSES)
def test_every_node_is_found_by_its_name_and_documented(name: str) -> None:
    cls = nodes.find(name)
    assert issubclass(cls, Node)
    assert cls.__module__ == f"nodes.{name}"
    text = inspect.getdoc(cls) or ""
    assert text != inspect.getdoc(Node)
    for setting in inspect.signature(cls).parameters:
        assert f"{setting}" in text.partition("Args:")[2], f"{name}: the setting {setting!r} is not explained"


def test_every_node_in_the_folders_has_a_name() -> None:
    found = set()
    for path in files("nodes"):
        for part in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(part, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == "Node" for b in part.bases):
                found.add((module_name(path), part.name))
    assert found == {(f"nodes.{name}", cls) for name, cls in nodes.CLASSES.items()}
