"""When work is recorded and when it is replayed, without a GPU: with a recorder that keeps what it was given."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nodes.fusion.cuda import causes
from nodes.fusion.cuda_device import Graphed, lacks_memory

Tensors = tuple[Tensor, ...]


class Recorded:
    """Does the work again into the memory of the first time, as a CUDA graph does."""

    made: list[Recorded]

    def __init__(self, work: Callable[[], Tensors]) -> None:
        self.work, self.result, self.replays, self.closed = work, work(), 0, False
        for kept in self.result:
            kept.zero_()  # nothing is computed while it is recorded
        self.made.append(self)

    def replay(self) -> None:
        self.replays += 1
        for kept, made in zip(self.result, self.work(), strict=True):
            kept.copy_(made)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[Recorded]:
    found: list[Recorded] = []
    monkeypatch.setattr(Recorded, "made", found, raising=False)
    return found


def scaled(asked: int, *inputs: Tensor) -> Tensors:
    return tuple(asked * x for x in inputs)


def test_what_comes_again_is_recorded_and_replayed_with_the_values_of_then(made: list[Recorded]) -> None:
    graphed = Graphed(scaled, Recorded)
    for number in range(5):
        first, second = torch.full((2, 3), float(number)), torch.full((4,), number, dtype=torch.int32)
        result = graphed(3, first, second)
        assert torch.equal(result[0], 3 * first)
        assert torch.equal(result[1], 3 * second)
        assert graphed.recorded == (number > 0)
    assert made[0].replays == 4


def test_what_comes_once_is_not_recorded(made: list[Recorded]) -> None:
    graphed = Graphed(scaled, Recorded)
    for side in range(1, 5):
        graphed(1, torch.ones(side))
    assert made == []


@pytest.mark.parametrize("change", ["shape", "dtype", "asked"])
def test_when_something_changes_it_is_recorded_anew_and_the_old_one_let_go_of(
    made: list[Recorded], change: str
) -> None:
    graphed = Graphed(scaled, Recorded)
    for _ in range(3):
        graphed(2, torch.ones(4))
    other = torch.ones(5 if change == "shape" else 4, dtype=torch.float64 if change == "dtype" else torch.float32)
    asked = 7 if change == "asked" else 2
    for _ in range(3):
        assert torch.equal(graphed(asked, other)[0], asked * other)
    assert graphed.recorded == 2
    assert [each.closed for each in made] == [True, False]


def test_results_may_go_in_again(made: list[Recorded]) -> None:
    graphed = Graphed(lambda _, x: (x + 1,), Recorded)
    state = torch.zeros(3)
    for _ in range(6):
        (state,) = graphed(None, state)
    assert state.tolist() == [6, 6, 6]
    assert made[0].replays == 5


def test_what_cannot_be_recorded_is_done_as_it_is_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(_: Callable[[], Tensors]) -> Recorded:
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        except RuntimeError:
            raise RuntimeError("the recording was spoilt")  # noqa: B904 (as torch does it)

    graphed = Graphed(scaled, refuse)
    with caplog.at_level(logging.WARNING):
        for side in (2, 2, 2, 3, 3, 3):
            assert graphed(2, torch.ones(side))[0].tolist() == [2] * side
    assert graphed.recording is None
    assert [record.message for record in caplog.records] == [
        "the fusion is not run as a CUDA graph: operation not permitted when stream is capturing"
    ]


def test_too_little_memory_to_record_is_told(made: list[Recorded]) -> None:
    def refuse(_: Callable[[], Tensors]) -> Recorded:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")

    graphed = Graphed(scaled, refuse)
    graphed(2, torch.ones(2))
    with pytest.raises(torch.OutOfMemoryError):
        graphed(2, torch.ones(2))


@pytest.mark.parametrize(
    ("words", "lacks"),
    [
        ("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("cudaErrorMemoryAllocation: out of memory", True),
        ("CUDA error: an illegal memory access was encountered", False),
    ],
)
def test_a_lack_of_memory_is_known_whoever_tells_it_and_whatever_came_of_it(words: str, lacks: bool) -> None:
    assert lacks_memory(RuntimeError(words)) == lacks
    with pytest.raises(ValueError, match="something else") as raised:
        fail_because_of(RuntimeError(words))
    assert lacks_memory(raised.value) == lacks
    assert len(list(causes(raised.value))) == 2


def fail_because_of(error: Exception) -> None:
    raise ValueError("something else") from error
