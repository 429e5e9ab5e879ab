"""Each network in turn, untrained, for all that fuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodes.fusion.network import Network
from tests import media
from tests.conftest import WeightsOf


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
