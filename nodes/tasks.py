"""What can be fused: the inputs of each task. The last gives the fused frame its size, its colour and its times."""

from __future__ import annotations

INPUTS = {
    "infrared": ("infrared", "visible"),
    "exposure": ("under", "over"),
    "focus": ("near", "far"),
    "medical": ("mri", "other"),
}
BRACKET = ("under", "middle", "over")
"""The inputs of task exposure with three exposures."""
