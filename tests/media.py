"""Synthetic recordings, pictures and weights, small enough that a test fuses them in no time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
import yaml
from safetensors.torch import load_file, save_file

from models import catalog

SIZE = (64, 48)  # (width, height)


def scene(number: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8 BGR: a coloured slope with a bright square that moves a little each frame."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    image = np.stack([60 + 120 * x, 60 + 120 * y, 180 - 120 * x], axis=2).astype(np.uint8)
    left = (2 * number) % max(1, width)
    image[height // 4 : height // 2 + 1, left : left + 8] = (40, 240, 200)
    return image


def heat(number: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) uint8: dark, with something warm that moves a little each frame."""
    width, height = size
    image = np.full((height, width), 50, np.uint8)
    top = number % max(1, height)
    image[top : top + 8, width // 3 : width // 2 + 1] = 230
    return image


def write_image(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)
    return path


def read_image(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, f"{path} is no image"
    return image


def noise(number: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W, 3) uint8 BGR that no codec makes small."""
    return np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), np.uint8)


def write_pair(folder: Path, size: tuple[int, int] = SIZE) -> tuple[Path, Path]:
    """Two still images, infrared and visible."""
    return (
        write_image(folder / "infrared.png", heat(size=size)),
        write_image(folder / "visible.png", scene(size=size)),
    )


def write_folders(folder: Path, names: Sequence[str]) -> tuple[Path, Path]:
    """Two folders of images, `infrared` and `visible`, with these names in both."""
    for number, name in enumerate(names):
        write_image(folder / "infrared" / f"{name}.png", heat(number))
        write_image(folder / "visible" / f"{name}.png", scene(number))
    return folder / "infrared", folder / "visible"


def write_video(
    path: Path,
    images: Iterable[np.ndarray],
    *,
    fps: int = 25,
    pixel_format: str = "yuv420p",
    full_range: bool = False,
    start: int = 0,
    codec: str = "ffv1",
    options: dict[str, str] | None = None,
) -> Path:
    """A video; lossless unless said otherwise. Gray images are written as they are, BGR ones are converted.

    Args:
        path: `.mkv` for FFV1.
        images: (H, W) uint8 or uint16, or (H, W, 3) uint8 BGR.
        fps: frames a second.
        pixel_format: in the file.
        full_range: luma in 0..255 instead of 16..235.
        start: the first frame's time, in frames.
        codec, options: of the encoder.
    """
    side = 2 if full_range else 1
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=fps, options=options or {})
        stream.pix_fmt = pixel_format
        for number, image in enumerate(images, start):
            if number == start:
                stream.height, stream.width = image.shape[:2]
                stream.codec_context.color_range = side
            layout = "bgr24" if image.ndim == 3 else "gray16le" if image.dtype == np.uint16 else "gray"
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format=layout)
            if layout != pixel_format:
                picture = picture.reformat(format=pixel_format, src_color_range=2, dst_color_range=side)
            picture.color_range = side
            picture.pts, picture.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def write_recording(folder: Path, count: int = 6, **how: Any) -> tuple[Path, Path]:
    """Two videos of as many frames, `infrared.mkv` and `visible.mkv`."""
    infrared = write_video(folder / "infrared.mkv", (heat(n) for n in range(count)), **how)
    return infrared, write_video(folder / "visible.mkv", (scene(n) for n in range(count)), **how)


def write_hollow_video(path: Path) -> Path:
    """An AVI that is whole, and has not one frame."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        container.start_encoding()
    return path


def decoded(path: Path) -> list[av.VideoFrame]:
    """All frames of a video, as far as it plays."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def times_s(path: Path) -> list[float]:
    return [round(picture.time, 3) for picture in decoded(path) if picture.time is not None]


@cache
def tiny_network(model: str = "cadnif", **options: Any) -> torch.nn.Module:
    """A network that has learned nothing, always the same."""
    torch.manual_seed(0)
    return catalog.build(model, options)


def write_weights(path: Path, task: str = "infrared", model: str = "cadnif", **options: Any) -> Path:
    """Weights that can be fused with, whether or not trained ones are there."""
    catalog.save(path, tiny_network(model, **options), model, task, options)
    return path


def write_changed_weights(path: Path, **tensors: torch.Tensor | None) -> Path:
    """Weights with some tensors in place of the right ones, or without them where None is given."""
    write_weights(path)
    changed: dict[str, Any] = load_file(path) | {key.replace("__", "."): value for key, value in tensors.items()}
    metadata = {"model": "cadnif", "task": "infrared", "options": "{}"}
    save_file({key: value for key, value in changed.items() if value is not None}, path, metadata)
    return path


def write_config(path: Path, weights: Path, **changes: dict[str, Any] | None) -> Path:
    """A config that fuses `infrared.mkv` and `visible.mkv` beside it into `fused.mkv`.

    Args:
        path: of the YAML file.
        weights: to fuse with.
        changes: settings by node that are put over the usual ones; a new node, or None to leave one out.
    """
    nodes: dict[str, dict[str, Any]] = {
        "thermal": {"type": "capture.video", "path": str(path.with_name("infrared.mkv"))},
        "rgb": {"type": "capture.video", "path": str(path.with_name("visible.mkv"))},
        "fuse": {"type": "fusion.fuse", "inputs": {"infrared": "thermal", "visible": "rgb"}, "weights": str(weights)},
        "save": {"type": "output.video", "inputs": "fuse", "path": str(path.with_name("fused.mkv"))},
    }
    for name, change in changes.items():
        nodes[name] = nodes.get(name, {}) | (change or {})
        if change is None:
            del nodes[name]
    path.write_text(yaml.safe_dump(nodes, sort_keys=False), encoding="utf-8")
    return path


# Written out once more, so that a slip in the project's own tables does not go unseen.
NETWORKS = ["cadnif", "realtime"]
TASK_INPUTS = [
    ("infrared", ("infrared", "visible")),
    ("exposure", ("under", "over")),
    ("focus", ("near", "far")),
    ("medical", ("mri", "other")),
]
