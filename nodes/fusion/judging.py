"""What `run.py eval` does: images by the metrics of the field, videos by how steady they are."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models import evaluation
from models.controls import Fusing, controls_for
from nodes.fusion import stability
from nodes.fusion.network import Device, Network, Precision
from pipeline.errors import ConfigError, SourceError

log = logging.getLogger("streamfuse")


@dataclass(frozen=True)
class Wanted:
    """What the command line asks for."""

    first: Path
    second: Path | None
    fused: Path | None
    """To judge instead of what a network makes."""
    task: str
    model: str | None
    weights: Path | None
    device: Device
    precision: Precision
    sheet: Path | None
    no_steady: bool

    def networks(self) -> dict[str, Network]:
        """The network to judge by its name, if it is one."""
        if self.fused:
            return {}
        network = Network(self.model, self.task, self.weights, self.device, self.precision)
        return {f"{network.model} {network.precision}": network}


def images(wanted: Wanted) -> tuple[dict[str, Any], str]:
    """Figures of folders of images, and their table.

    Raises:
        ConfigError: something is asked for that images do not have.
        SourceError: the folders do not pair, or an image cannot be read.
    """
    if wanted.no_steady:
        raise ConfigError("--no-steady is for videos; images are fused each for itself")
    if wanted.sheet and wanted.sheet.suffix.lower() != ".png":
        raise ConfigError(f"--sheet {wanted.sheet}: a sheet is written as .png")
    try:
        pairs = evaluation.find_pairs(wanted.first, wanted.second, wanted.task)
        fusions: dict[str, Fusing] = {name: network.fuse_full_range for name, network in wanted.networks().items()}
        if wanted.fused:
            name = stability.row_name(wanted.fused, controls_for(wanted.task))
            fusions[name] = evaluation.from_folder(wanted.fused)
        result = evaluation.judge(pairs, wanted.task, fusions, wanted.sheet)
    except ValueError as error:
        raise SourceError(str(error)) from error
    log.info("%d pairs, %s to %s", len(pairs), pairs[0][0], pairs[-1][0])
    return result, evaluation.table(result["means"])


def videos(wanted: Wanted, capture: stability.Capture) -> tuple[dict[str, Any], str]:
    """Figures of two videos, and their table.

    Args:
        wanted: of what.
        capture: reads videos.

    Raises:
        ConfigError: something is asked for that videos do not have.
        SourceError: a video cannot be read, or they do not fit together.
    """
    if wanted.second is None:
        raise ConfigError(f"{wanted.first} is a video: give that of the second source as well")
    if wanted.sheet:
        raise ConfigError(f"--sheet {wanted.sheet}: a sheet is for images, not for videos")
    if wanted.no_steady and wanted.fused:
        raise ConfigError(f"--no-steady is for what a network fuses; {wanted.fused} is judged as it is")
    result = stability.measure(
        capture,
        wanted.first,
        wanted.second,
        fused=wanted.fused,
        networks=wanted.networks(),
        steadily=not wanted.no_steady,
    )
    log.info("%d frames; unexplained change in grey levels a frame, smear in grey levels", result["frames"])
    return result, stability.table(result)
