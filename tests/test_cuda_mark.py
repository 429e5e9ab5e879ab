"""A test that needs a GPU is skipped without one, with the reason, and fails where one must be there."""

from __future__ import annotations

from typing import Any

import pytest

from tests import conftest

WHY = "torch finds no NVIDIA GPU"


class Item:
    """A test with marks."""

    def __init__(self, *marks: str) -> None:
        self.marks = marks

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


def set_up(*marks: str) -> None:
    item: Any = Item(*marks)
    conftest.pytest_runtest_setup(item)


@pytest.mark.parametrize("insist", ["", "0"])
def test_without_a_gpu_it_is_skipped_with_the_reason(monkeypatch: pytest.MonkeyPatch, insist: str) -> None:
    monkeypatch.setattr(conftest, "why_no_cuda", lambda: WHY)
    monkeypatch.setenv("FAIL_WITHOUT_CUDA", insist)
    with pytest.raises(pytest.skip.Exception, match=f"^{WHY}$"):
        set_up("cuda", "slow")


def test_where_a_gpu_must_be_there_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "why_no_cuda", lambda: WHY)
    monkeypatch.setenv("FAIL_WITHOUT_CUDA", "1")
    with pytest.raises(pytest.fail.Exception, match=f"^FAIL_WITHOUT_CUDA is set, and {WHY}$"):
        set_up("cuda")


def test_with_a_gpu_it_runs_and_so_do_all_others_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL_WITHOUT_CUDA", "1")
    monkeypatch.setattr(conftest, "why_no_cuda", lambda: None)
    set_up("cuda")
    monkeypatch.setattr(conftest, "why_no_cuda", lambda: WHY)
    set_up("slow")
