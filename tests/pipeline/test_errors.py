"""Errors: each has its exit code, and a wrong name is answered with the nearest right one."""

from __future__ import annotations

import pytest

from pipeline import errors
from pipeline.errors import did_you_mean


@pytest.mark.parametrize(
    ("name", "code"),
    [("ConfigError", 2), ("SourceError", 3), ("DeviceError", 4), ("OutputError", 5), ("FramesLost", 6)],
)
def test_each_error_has_the_exit_code_of_its_kind(name, code):
    error = getattr(errors, name)
    assert issubclass(error, errors.StreamfuseError)
    assert error.exit_code == code


def test_a_wrong_name_is_answered_with_the_nearest_right_one():
    assert did_you_mean("modle", ["device", "model"]) == " Did you mean 'model'?"


def test_a_name_near_to_none_is_answered_with_all():
    assert did_you_mean("xyz", ["model", "device"]) == " There is: device, model."


def test_where_there_is_none_nothing_is_said():
    assert did_you_mean("xyz", []) == ""
