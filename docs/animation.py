"""Draw the moving picture of the README from what `make demo` made: infrared, visible and fused side by side.

python docs/animation.py out/demo.mp4 docs/demo.webp
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np

CLIP = Path(__file__).resolve().parents[1] / "configs" / "demo"
TILE = (300, 225)  # width, height in px
EVERY = 3  # frames; a third of 30 a second is enough to see people walk


def tiles(path: Path, label: str) -> Iterator[np.ndarray]:
    """Every few frames of a video as labelled (225, 300, 3) uint8 BGR."""
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number % EVERY == 0:
                tile = cv2.resize(frame.to_ndarray(format="bgr24"), TILE, interpolation=cv2.INTER_AREA)
                for colour, thickness in ((0, 0, 0), 3), ((255, 255, 255), 1):
                    cv2.putText(tile, label, (8, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.55, colour, thickness, cv2.LINE_AA)
                yield tile


def main(fused: Path, out: Path) -> None:
    streams = [(CLIP / "infrared.mp4", "infrared"), (CLIP / "visible.mp4", "visible"), (fused, "fused")]
    rows = zip(*(tiles(path, label) for path, label in streams), strict=True)
    animation = cv2.Animation()
    animation.frames = [np.hstack(row) for row in rows]
    animation.durations = [EVERY * 1000 // 30] * len(animation.frames)
    if not cv2.imwriteanimation(str(out), animation, [cv2.IMWRITE_WEBP_QUALITY, 60]):
        sys.exit(f"{out}: cannot be written")
    print(f"{out}: {len(animation.frames)} frames, {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
