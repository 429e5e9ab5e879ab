"""A street at night: what stands there, who moves through it, how bright and how warm all of it is. Not a node.

Places are shares of the picture's width and height, so that cameras of different sizes see the same street; where
something is depends on the time alone, so that cameras that know nothing of each other show the same moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

HORIZON, PAVEMENT, ROAD, FOOT = 0.42, 0.50, 0.60, 0.92  # shares of the height where these begin; at the foot, a clock
LAMPS = ((0.22, 0.20), (0.71, 0.16))  # (x, y)
SKIN, CLOTHES, TROUSERS, ENGINE, TYRE, COLD_METAL = 165.0, 140.0, 125.0, 200.0, 150.0, 60.0  # levels of heat
# Widths of the picture that a way goes on outside of it: more than a body is wide, and the same for all cameras.
OUTSIDE = {"person": 0.2, "vehicle": 0.5}
QUARTERS = 4
"""Pictures of a walker, one for each quarter of a second, in which two steps are made."""


@dataclass(frozen=True)
class Look:
    """How something looks to both kinds of camera."""

    light: NDArray[np.float32]
    """(H, W, 3) BGR, linear, >= 0; 1 is white in a middle exposure."""
    heat: NDArray[np.float32]
    """(H, W) levels of infrared, 0..255."""
    mask: NDArray[np.bool_]
    """(H, W): where there is something."""


@dataclass(frozen=True)
class Body:
    """Where someone is: the box around them in pixels, from its left upper corner. May lie partly outside."""

    kind: Literal["person", "vehicle"]
    x: float
    y: float
    width: int
    height: int


@dataclass(frozen=True)
class Track:
    """Someone who crosses the picture at an even speed, and comes again from the other side."""

    kind: Literal["person", "vehicle"]
    start: float
    """Place at time zero, in widths of the picture."""
    speed: float
    """Widths a second; negative to the left."""
    bottom: float
    """Of the feet or wheels, in heights of the picture."""
    height: float
    """In heights of the picture."""
    colour: tuple[float, float, float]
    """Light that comes back, BGR."""

    def at(self, time_ns: int, size: tuple[int, int]) -> Body:
        """Where they are at a time."""
        width, height = self.box(size)
        x = (self.start + self.speed * time_ns / 1e9) % (1 + OUTSIDE[self.kind]) - OUTSIDE[self.kind]
        return Body(self.kind, x * size[0], self.bottom * size[1] - height, width, height)

    def box(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height in pixels."""
        height = max(4, round(self.height * size[1]))
        return max(2, round(height * (0.45 if self.kind == "person" else 2.2))), height

    def looks(self, size: tuple[int, int]) -> list[Look]:
        """How they look in each quarter of a second."""
        width, height = self.box(size)
        if self.kind == "person":
            return [person(width, height, self.colour, swing) for swing in np.sin(np.arange(QUARTERS) * np.pi / 2)]
        car = vehicle(width, height, self.colour)
        if self.speed < 0:
            car = Look(car.light[:, ::-1], car.heat[:, ::-1], car.mask[:, ::-1])
        return [car]


def tracks(seed: int) -> list[Track]:
    """Three walkers and two vehicles, from the farthest to the nearest."""
    random = np.random.default_rng((seed, 1))

    def track(kind: Literal["person", "vehicle"], bottom: float, height: float, slow: float, fast: float) -> Track:
        colour = random.uniform(0.004, 0.03, 3)
        speed = float(random.uniform(slow, fast) * random.choice((-1, 1)))
        return Track(kind, float(random.uniform()), speed, bottom, height, (colour[0], colour[1], colour[2]))

    return [
        track("person", 0.57, 0.17, 0.03, 0.05),
        track("person", 0.59, 0.18, 0.04, 0.06),
        track("vehicle", 0.72, 0.13, 0.12, 0.20),
        track("vehicle", 0.83, 0.16, 0.15, 0.25),
        track("person", 0.90, 0.30, 0.05, 0.09),
    ]


def grids(width: int, height: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(H, W) of x and y in 0..1, at the middle of each pixel."""
    x, y = (np.arange(side, dtype=np.float32) + 0.5 for side in (width, height))
    return tuple(np.meshgrid(x / width, y / height))  # type: ignore[return-value]


def person(width: int, height: int, colour: tuple[float, float, float], swing: float) -> Look:
    """A walker seen from the side, legs apart by `swing`, -1..1."""
    x, y = grids(width, height)
    stride = 0.3 * swing * (y - 0.55) / 0.45
    head = ((x - 0.5) / 0.22) ** 2 + ((y - 0.1) / 0.1) ** 2 < 1
    torso = (np.abs(x - 0.5) < 0.27) & (y > 0.2) & (y < 0.6)
    legs = ((np.abs(x - 0.5 - stride) < 0.13) | (np.abs(x - 0.5 + stride) < 0.13)) & (y >= 0.58)
    heat = np.select([head, torso], [SKIN, CLOTHES], TROUSERS).astype(np.float32)
    light = np.where(head[..., None], 0.05, np.array(colour, np.float32)) * np.ones((height, width, 1), np.float32)
    return Look(light.astype(np.float32), heat, head | torso | legs)


def vehicle(width: int, height: int, colour: tuple[float, float, float]) -> Look:
    """A car seen from the side, its warm engine and its headlight at the right."""
    x, y = grids(width, height)
    aspect = width / height
    wheels = [((x - centre) * aspect) ** 2 + (y - 0.84) ** 2 < 0.15**2 for centre in (0.2, 0.8)]
    chassis = (y > 0.4) & (y < 0.85) & (x > 0.01) & (x < 0.99)
    cabin = (y > 0.05) & (y <= 0.4) & (np.abs(x - 0.42) < 0.12 + 0.35 * y)
    bonnet, window = chassis & (x > 0.7) & (y < 0.65), cabin & (y > 0.13)
    headlight = chassis & (x > 0.93) & (np.abs(y - 0.55) < 0.08)
    wheel = wheels[0] | wheels[1]
    heat = np.select([wheel, bonnet, window], [TYRE, ENGINE, COLD_METAL - 15], COLD_METAL).astype(np.float32)
    light = np.ones((height, width, 3), np.float32) * np.array(colour, np.float32)
    light[window], light[wheel], light[headlight] = 0.01, 0.003, (2.0, 2.6, 3.0)
    return Look(light, heat, chassis | cabin | wheel)


def street(size: tuple[int, int], seed: int) -> Look:
    """What does not move: sky, houses with windows, pavement, road with its markings, and two lamps that glare."""
    random, (width, height) = np.random.default_rng((seed, 0)), size
    x, y = grids(width, height)
    grain = texture(random, size, 24, 32) + 0.5 * texture(random, size, 240, 320)
    sky, road = y < HORIZON, y >= ROAD
    light = np.where(sky, 0.003, np.where(road, 0.02, 0.035)) * (1 + 0.2 * grain)
    heat = np.where(sky, 18 + 30 * y, np.where(road, 56, 50)) + 2.5 * grain
    colour = light[..., None] * np.array([1.1, 1.0, 0.9], np.float32)
    put_houses(random, x, y, colour, heat, grain)
    middle_line = (np.abs(y - 0.75) < 0.006) & ((x * 12) % 1 < 0.5)
    kerb = np.abs(y - ROAD) < 0.006
    colour[middle_line | kerb] = 0.12
    for lamp_x, lamp_y in LAMPS:
        pole = (np.abs(x - lamp_x) < 0.003) & (y > lamp_y) & (y < PAVEMENT + 0.05)
        colour[pole], heat[pole] = 0.01, 40
        away = np.hypot((x - lamp_x) * width / height, y - lamp_y)
        pool = np.exp(-(((x - lamp_x) / 0.12) ** 2) - ((y - ROAD) / 0.12) ** 2)
        glare = 8 * np.exp(-((away / 0.018) ** 2)) + 0.25 * np.exp(-away / 0.05)
        colour += (glare + 0.05 * pool * (y > HORIZON))[..., None] * np.array([0.55, 0.85, 1.0], np.float32)
        heat += 45 * np.exp(-((away / 0.018) ** 2))
    return Look(np.maximum(colour, 0).astype(np.float32), heat.astype(np.float32), np.ones((height, width), bool))


def texture(random: np.random.Generator, size: tuple[int, int], rows: int, columns: int) -> NDArray[np.float32]:
    """(H, W) of smooth noise around 0 that is the same whatever the size."""
    coarse = random.standard_normal((rows, columns)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_LINEAR), np.float32)


def put_houses(
    random: np.random.Generator,
    x: NDArray[Any],
    y: NDArray[Any],
    colour: NDArray[Any],
    heat: NDArray[Any],
    grain: NDArray[Any],
) -> None:
    """Paint a row of houses into light and heat, some of their windows lit."""

    def box(left: float, top: float, right: float, bottom: float) -> tuple[slice, slice]:
        rows, columns = np.searchsorted(y[:, 0], (top, bottom)), np.searchsorted(x[0], (left, right))
        return slice(*rows), slice(*columns)

    edges = np.cumsum(random.uniform(0.1, 0.22, 10))
    for left, right in zip([0.0, *edges], edges, strict=False):
        top, wall = random.uniform(0.08, 0.3), random.uniform(0.008, 0.03)
        house = box(left, top, right, PAVEMENT)
        colour[house] = (wall * (1 + 0.3 * grain[house]))[..., None] * np.array([0.8, 0.9, 1.0], np.float32)
        heat[house] = 44 + 300 * wall + 2 * grain[house]
        for column in np.arange(left + 0.015, right - 0.03, 0.04):
            for row in np.arange(top + 0.03, PAVEMENT - 0.08, 0.075):
                window = box(column, row, column + 0.02, row + 0.045)
                colour[window] = np.array([0.25, 0.5, 0.65], np.float32) if random.uniform() < 0.25 else 0.006
                heat[window] += 8
