"""Each network in turn, untrained, for all that fuses, and the node that fuses with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nodes.fusion.fuse import Fuse
from nodes.fusion.network import Network
from tests import media
from tests.conftest import WeightsOf
from tests.nodes.fusion.frames import Making


@pytest.fixture(params=media.NETWORKS)
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def weights(model: str, weights_of: WeightsOf) -> Path:
    """Of each network in turn."""
    return weights_of(model)


@pytest.fixture
def network(weights: Path) -> Network:
    return Network(None, "infrared", weights, "cpu", "fp32")


@pytest.fixture
def make(weights: Path) -> Making:
    """An open node, on the CPU in fp32."""

    def do(size: tuple[int, int] | None = media.SIZE, **settings: Any) -> Fuse:
        node = Fuse(**{"weights": weights, "device": "cpu", "precision": "fp32"} | settings)
        node.name = "fuse"
        node.open(dict.fromkeys(node.inputs()[:-1]) | {node.inputs()[-1]: size})
        return node

    return do
