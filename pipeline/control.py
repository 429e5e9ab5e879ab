"""Control: one thing of a node that may be changed while it runs, from the page, the command line or a test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.errors import ConfigError, did_you_mean


@dataclass(frozen=True, slots=True)
class Control:
    """What a node lets others change, as it is now. Make it with one of the functions below."""

    kind: Literal["number", "choice", "switch", "action"]
    label: str
    """For people."""
    value: float | str | bool | None = None
    """Of now; None of an action."""
    least: float = -math.inf
    most: float = math.inf
    step: float = 1.0
    """Of a slider."""
    unit: str = ""
    choices: tuple[str, ...] = ()

    def checked(self, value: Any) -> Any:
        """The value in the type of this control.

        Raises:
            ConfigError: it is not legal; says what is.
        """
        if self.kind == "action":
            return None
        if self.kind == "switch":
            if isinstance(value, bool):
                return value
            raise ConfigError(f"{self.label} is {value!r}; legal is true or false")
        if self.kind == "choice":
            if value in self.choices:
                return value
            raise ConfigError(f"{self.label} is {value!r}.{did_you_mean(str(value), self.choices)}")
        legal = isinstance(value, int | float) and not isinstance(value, bool) and self.least <= value <= self.most
        if not legal:  # NaN neither
            raise ConfigError(
                f"{self.label} is {value!r}; legal is {self.least:g} to {self.most:g} {self.unit}".rstrip()
            )
        return float(value)


def number(label: str, value: float, least: float, most: float, *, step: float = 1.0, unit: str = "") -> Control:
    """A slider."""
    return Control("number", label, value, least, most, step, unit)


def choice(label: str, value: str, choices: tuple[str, ...]) -> Control:
    """One of several words."""
    return Control("choice", label, value, choices=choices)


def switch(label: str, value: bool) -> Control:
    """On or off."""
    return Control("switch", label, value)


def action(label: str) -> Control:
    """A button: something to do once."""
    return Control("action", label)
