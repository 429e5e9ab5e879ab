"""Ready for inference: the same pictures, in the precision asked for."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models import inference
from models.cadnif import Cadnif
from models.layers import Conv
from models.realtime import Realtime

CPU = torch.device("cpu")


@pytest.fixture(params=[Cadnif, Realtime])
def model(request: pytest.FixtureRequest) -> nn.Module:
    """A network whose statistics, if it has any, are those of some pictures, as after training."""
    torch.manual_seed(0)
    network: nn.Module = request.param()
    with torch.no_grad():
        for _ in range(3):
            network(torch.rand(2, 1, 48, 48) * 2 - 1, torch.rand(2, 1, 48, 48) * 2 - 1)
    return network.eval()


def picture() -> torch.Tensor:
    return torch.rand(1, 1, 50, 70) * 2 - 1


def test_prepared_in_fp32_it_gives_the_same_pictures(model: nn.Module) -> None:
    pair = picture(), picture()
    with torch.inference_mode():
        torch.testing.assert_close(inference.prepare(model, CPU, "fp32")(*pair), model(*pair), atol=1e-4, rtol=0)


def test_prepared_in_bf16_it_is_within_a_few_grey_levels_and_less_than_one_on_average(model: nn.Module) -> None:
    pair = picture(), picture()
    ready = inference.prepare(model, CPU, "bf16")
    with torch.inference_mode():
        levels = (ready(*pair).float() - model(*pair)).abs() * 127.5
    # The choice of realtime tips over where two scores are near one another; of this untrained one many are.
    assert levels.max() < (4 if isinstance(model, Cadnif) else 8)
    assert levels.mean() < 1


def test_preparing_leaves_the_network_as_it_was(model: nn.Module) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    ready = inference.prepare(model, CPU, "bf16")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(p.requires_grad for p in ready.parameters())
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in ready.modules())


def test_without_accumulating_convolutions_it_still_works(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "has_accumulating_convolution", lambda: False)
    ready = inference.prepare(model, CPU, "fp32")
    assert not any(m._accumulate for m in ready.modules() if isinstance(m, Conv))
    pair = picture(), picture()
    with torch.inference_mode():
        torch.testing.assert_close(ready(*pair), model(*pair), atol=1e-4, rtol=0)


def test_sizes_may_change_between_pictures(model: nn.Module) -> None:
    ready = inference.prepare(model, CPU, "fp32")
    with torch.inference_mode():
        for size in ((33, 20), (64, 64), (33, 20), (1, 5)):
            assert ready(torch.zeros(1, 1, *size), torch.zeros(1, 1, *size)).shape == (1, 1, *size)


def test_the_precision_of_a_cpu_is_bf16_only_where_it_has_the_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    assert inference.best_precision(CPU) == "bf16"
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    assert inference.best_precision(CPU) == "fp32"
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert inference.best_precision(CPU) == "fp32"


def test_memory_is_kept_where_the_c_library_is_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference.platform, "libc_ver", lambda: ("musl", "1.2"))
    assert not inference.keep_memory()
