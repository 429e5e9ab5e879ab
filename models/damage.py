"""What sensors and lenses do to a picture, for training: planes are (H, W) float32 in -1..1."""

from __future__ import annotations

import cv2
import numpy as np

GREY = 2 / 255  # one grey level on the scale of -1..1


def first_source(planes: list[np.ndarray], rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """One damage to the first source: what is seen then, and what is wanted.

    Noise, blur and a shift are to be seen through: the loss knows the clean source. What a saturated or an empty source
    has lost nobody knows: there, the other is wanted.
    """
    first, *rest = planes
    kind = rng.choice(["noise", "blur", "shift", "saturated", "empty"], p=[0.35, 0.15, 0.3, 0.1, 0.1])
    seen = DAMAGES[kind](first, rng)
    if kind in ("saturated", "empty"):
        lost = np.full(seen.shape, kind == "empty") | (seen >= 1)
        return [seen, *rest], [np.where(lost, rest[0], seen), *rest]
    return [seen, *rest], planes


def noise(plane: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """White noise of up to 14 grey levels."""
    strength = GREY * rng.uniform(2, 14)
    return np.clip(plane + strength * rng.standard_normal(plane.shape), -1, 1).astype(np.float32)


def blur(plane: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Out of focus or shaken: a Gaussian of up to 2 px."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), rng.uniform(0.5, 2.0)))


def shift(plane: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Not registered: moved by 1 to 4 px in any direction, the border repeated."""
    angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(1, 4)
    move = np.array([[1, 0, length * np.cos(angle)], [0, 1, length * np.sin(angle)]], np.float32)
    return np.asarray(cv2.warpAffine(plane, move, plane.shape[::-1], borderMode=cv2.BORDER_REPLICATE))


def saturated(plane: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gain far too high: much of the picture is white."""
    lift = rng.uniform(0.3, 1.5)
    return np.clip(plane * rng.uniform(1, 2) + lift, -1, 1).astype(np.float32)


def empty(plane: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lens covered, sensor shuttered or dead: one grey, black or white, with a little noise."""
    level = rng.choice([-1.0, 1.0, rng.uniform(-1, 0)])
    strength = GREY * rng.choice([0.0, rng.uniform(0, 3)])
    return np.clip(level + strength * rng.standard_normal(plane.shape), -1, 1).astype(np.float32)


DAMAGES = {"noise": noise, "blur": blur, "shift": shift, "saturated": saturated, "empty": empty}


def two_focal_planes(sharp: np.ndarray, rng: np.random.Generator) -> tuple[list[np.ndarray], np.ndarray]:
    """Two pictures of a scene of two depths, the lens focused on one in each, in either order; and the right choice.

    The near part is laid over the far one as light does it: out of focus, it spreads over what lies behind it. The
    right choice is 1 where the first picture is to be taken, 0 where the second is.
    """
    mask = random_mask(sharp.shape, rng)
    kernel = lens(rng)
    far_blurred, near_blurred = cv2.filter2D(sharp, -1, kernel), cv2.filter2D(sharp * mask, -1, kernel)
    near = mask * sharp + (1 - mask) * far_blurred
    far = near_blurred + (1 - cv2.filter2D(mask, -1, kernel)) * sharp
    strength = GREY * rng.choice([0.0, rng.uniform(0, 3)])
    near, far = (
        # The light changes between two shots: nothing to choose by.
        np.clip(tone(picture, rng) + strength * rng.standard_normal(sharp.shape), -1, 1).astype(np.float32)
        for picture in (near, far)
    )
    return ([near, far], mask) if rng.random() < 0.5 else ([far, near], 1 - mask)


def tone(plane: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A gain of up to 10 % and an offset of up to 10 grey levels."""
    return np.asarray((plane + 1) * rng.uniform(0.9, 1.1) - 1 + 10 * GREY * rng.uniform(-1, 1))


def random_mask(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """(H, W) float32, 0 or 1 with a soft border of a pixel or so: blobs of any size, now and then all of one."""
    height, width = shape
    cells = int(rng.integers(2, 7))
    field = cv2.resize(
        rng.standard_normal((cells, cells)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
    )
    mask = (field > rng.uniform(-0.8, 0.8)).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), rng.uniform(0.3, 1.2)))


def lens(rng: np.random.Generator) -> np.ndarray:
    """Kernel of a lens out of focus: an even disc, or a Gaussian, of 1 to 12 px radius."""
    radius = float(np.exp(rng.uniform(np.log(0.9), np.log(12.0))))
    half = int(np.ceil(2 * radius))
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float32)
    distance = np.hypot(x, y)
    disc = np.clip(radius + 0.5 - distance, 0, 1)
    kernel = disc if rng.random() < 0.6 else np.exp(-2 * (distance / radius) ** 2)
    return np.asarray(kernel / kernel.sum(), np.float32)
