"""Training: the same config and seed give the same weights on the same machine; it goes on where it was stopped."""

from __future__ import annotations

import csv
import math
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models import catalog
from models.crops import Batch, Batches, Crops, Defocused
from models.data import find_images, find_sets
from models.losses import unexplained, weighted, wrong_choices
from models.training_config import ConfigError as ConfigError
from models.training_config import TrainingConfig as TrainingConfig
from models.training_config import read_config as read_config


class Trainer:
    """A run in progress: the network, its optimiser, the data and the step reached."""

    def __init__(self, config: TrainingConfig, device: str) -> None:
        self.config, self.device, self.step = config, torch.device(device), 0
        self.commit = commit()  # now, not at the end: the checkout may move on while we train
        torch.manual_seed(config.seed)
        network = catalog.build(config.model, config.options)
        if config.start:
            catalog.fill(config.start, network, catalog.load(config.start, model=config.model).state_dict())
        self.model = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(self.model.parameters(), config.learning_rate)
        self.teacher = catalog.load(config.teacher).to(self.device) if config.teacher else None
        self.digest = config.digest()  # now, of the files just loaded: they may change while we train
        self.batches, self.scenes = make_batches(config)

    @property
    def checkpoint(self) -> Path:
        return self.config.run / "checkpoint.pt"

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one of this very config."""
        if not self.checkpoint.exists():
            return
        try:
            state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        except Exception as error:  # what torch raises for a damaged file is of many kinds
            raise catalog.ModelError(f"{self.checkpoint}: cannot be read; give --restart to begin anew") from error
        if state["config"] != self.digest:
            raise catalog.ModelError(
                f"{self.checkpoint}: of another config, or of other weights in 'start' or 'teacher'; give --restart to "
                "begin anew, or another 'run' folder"
            )
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]

    def save_checkpoint(self) -> None:
        state = {
            "config": self.digest,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self.checkpoint)

    def learning_rate(self) -> float:
        """Short linear warm-up, then half a cosine down to the final rate."""
        c = self.config
        warm_up = min(100, c.steps // 10)
        if self.step < warm_up:
            return c.learning_rate * (self.step + 1) / warm_up
        done = (self.step - warm_up) / max(1, c.steps - warm_up)
        return c.final_learning_rate + (c.learning_rate - c.final_learning_rate) * (1 + math.cos(math.pi * done)) / 2

    def set_mode(self) -> None:
        """Train; late in the run with the statistics of normalisation fixed, as they will be in use."""
        self.model.train()
        if self.step >= self.config.freeze_after * self.config.steps:
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def advance(self) -> dict[str, float]:
        """One step; the terms of the loss before it."""
        self.set_mode()
        terms = self.terms(self.batches[self.step])
        loss = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(loss):
            raise catalog.ModelError(f"step {self.step}: the loss is {loss.item()}; try a smaller learning_rate")
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        return {"loss": loss.item(), **{name: term.item() for name, term in terms.items()}}

    def terms(self, batch: Batch) -> dict[str, torch.Tensor]:
        """The terms of the loss, weighted."""
        c = self.config
        inputs, wanted = (tuple(x.to(self.device) for x in planes) for planes in (batch.inputs, batch.wanted))
        following = a_moment_later(inputs, c.seed, self.step) if c.steadiness else ()
        weights: list[torch.Tensor] = []
        with torch.autocast(self.device.type, torch.bfloat16, enabled=c.precision == "bf16"):
            if c.choice:
                weights, residual = self.model.weigh_up(*inputs)
                fused = self.model.put_together(inputs, weights, residual)
            else:
                fused = self.model(*inputs)
            later = self.model(*following) if following else None
        terms = weighted(c.loss, fused, *wanted)
        terms |= {f"{name}_to_inputs": term for name, term in weighted(c.loss_to_inputs, fused, *inputs).items()}
        if self.teacher is not None:
            with torch.inference_mode():
                taught = self.teacher(*wanted)
            mine = weighted(c.loss_to_teacher, fused, taught.clone())
            terms |= {f"{name}_to_teacher": term for name, term in mine.items()}
        if weights and batch.choice is not None:
            terms["choice"] = c.choice * wrong_choices(weights[0], batch.choice.to(self.device))
        if later is not None:
            terms["steadiness"] = c.steadiness * unexplained(fused.float(), later.float(), inputs, following)
        return terms

    def finish(self) -> None:
        """Write the weights, with where they come from."""
        c = self.config
        about = {"seed": str(c.seed), "steps": str(c.steps), "config": self.digest, "commit": self.commit}
        catalog.save(c.weights, self.model, c.model, c.task, c.options, **about)


def make_batches(config: TrainingConfig) -> tuple[Batches, int]:
    """The batches of a run, and from how many scenes they are."""
    how: dict[str, Any] = {"crop": config.crop, "batch": config.batch, "seed": config.seed, "jitter": config.jitter}
    if config.task == "focus":
        paths = [path for root in config.data for path in find_images(root)]
        return Defocused(paths, **how), len(paths)
    sets = [found for root in config.data for found in find_sets(root, config.task)]
    return Crops(sets, **how, damage=config.damage, sources=config.sources), len(sets)


def a_moment_later(planes: Sequence[torch.Tensor], seed: int, step: int) -> tuple[torch.Tensor, ...]:
    """The same scenes, (B, 1, H, W) in -1..1, in the next frame of a video.

    The camera moved by up to 2 px; each sensor with a gain and noise of its own. Sensors regulate their gain by what
    they see, the thermal ones in leaps: each second first source, and each tenth other, has one of up to twice or half.
    """
    chance = torch.Generator().manual_seed(seed * 1_000_003 + step)
    y, x = torch.randint(-2, 3, (2,), generator=chance).tolist()
    following = []
    for i, plane in enumerate(planes):
        size, way, noise = torch.rand(3, len(plane), 1, 1, 1, generator=chance).to(plane.device)
        gain = torch.exp(torch.where(size < (0.1 if i else 0.5), 0.7, 0.05) * (2 * way - 1))
        grain = torch.randn(plane.shape, generator=chance).to(plane.device)
        changed = (plane.roll((y, x), dims=(2, 3)) + 1) * gain - 1 + noise * (3 * 2 / 255) * grain
        following.append(changed.clamp(-1, 1))
    return tuple(following)


def commit() -> str:
    """The commit of the code that trains, with a mark when it has been changed since; "unknown" outside a checkout."""
    here = Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip()


class Log:
    """Mean of the loss and its terms over each stretch of steps, as rows of a CSV file and lines for a person."""

    def __init__(self, path: Path, every: int, steps: int, started_at: int) -> None:
        self.path, self.every, self.steps = path, every, steps
        self.rows: list[dict[str, float]] = []
        self.began, self.began_step = time.monotonic(), started_at
        if started_at == 0:
            path.unlink(missing_ok=True)
        elif path.exists():  # steps behind the checkpoint come once more
            lines = path.read_bytes().splitlines(keepends=True)
            done = [line for line in lines[1:] if int(line.split(b",")[0]) <= started_at]
            path.write_bytes(b"".join(lines[:1] + done))

    def add(self, step: int, values: dict[str, float]) -> str | None:
        """Note one step; every so many steps the line to show."""
        self.rows.append(values)
        if step % self.every and step != self.steps:
            return None
        mean = {key: sum(row[key] for row in self.rows) / len(self.rows) for key in values}
        self.rows.clear()
        new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", *mean])
            writer.writerow([step, *(f"{value:.5f}" for value in mean.values())])
        seconds = (time.monotonic() - self.began) / (step - self.began_step)
        left = time.strftime("%H:%M:%S", time.gmtime(seconds * (self.steps - step)))
        parts = "  ".join(f"{key} {value:.4f}" for key, value in mean.items())
        return f"step {step}/{self.steps}  {parts}  {seconds:.2f} s/step  {left} left"


def train(config: TrainingConfig, *, device: str, restart: bool = False, say: Callable[[str], None] = print) -> Path:
    """Train from the start or from the last checkpoint to the end.

    Returns:
        The weights file written.
    """
    # Some operations have no deterministic form on CUDA: there, the same config gives nearly the same weights.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=device == "cuda")
    trainer = Trainer(config, device)
    config.run.mkdir(parents=True, exist_ok=True)
    if not restart:
        trainer.resume()
    say(
        f"{config.model} for {config.task}: {trainer.scenes} scenes, "
        f"step {trainer.step} of {config.steps}, {config.precision} on {device}"
    )
    log = Log(config.run / "loss.csv", config.log_every, config.steps, trainer.step)
    while trainer.step < config.steps:
        values = trainer.advance()
        if line := log.add(trainer.step, values):
            say(line)
        if trainer.step % config.checkpoint_every == 0:
            trainer.save_checkpoint()
    trainer.finish()
    return config.weights
