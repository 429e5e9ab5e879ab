"""What a training run is made of: its config, read from YAML and checked before anything begins."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from models import catalog
from models.losses import TERMS

WIDE_TERMS, NEEDS = {"hot", "fidelity", "exposure"}, 44  # px


class ConfigError(ValueError):
    """A training config is wrong; the message says where."""


class TrainingConfig(BaseModel):
    """One training run. Paths are relative to the folder the command is given in."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str = catalog.DEFAULT
    options: dict[str, Any] = Field(default_factory=dict)
    task: Literal["infrared", "exposure", "focus", "medical"]
    data: list[Path] = Field(min_length=1, description="of focus folders of sharp images, else data sets of the task")
    weights: Path
    run: Path
    start: Path | None = Field(None, description="weights to begin with")
    loss: dict[str, float] = Field(
        default_factory=dict, description="weights of the terms, compared with what is wanted"
    )
    loss_to_inputs: dict[str, float] = Field(default_factory=dict, description="the same, compared with the sources")
    loss_to_teacher: dict[str, float] = Field(default_factory=dict, description="the same, compared with the teacher's")
    teacher: Path | None = Field(None, description="weights of a network whose pictures are to be learnt")
    choice: float = Field(0.0, ge=0, description="weight of the wrong choices, where the right ones are known (focus)")
    steadiness: float = Field(0.0, ge=0, description="weight of the change between moments that no source explains")
    seed: int = 0
    steps: int = Field(gt=0)
    batch: int = Field(gt=0)
    crop: int = Field(ge=32)
    jitter: float = Field(0.0, ge=0)
    damage: float = Field(0.0, ge=0, le=1, description="share of the crops whose first source is damaged")
    sources: int = Field(2, ge=2, description="the most sources in a batch")
    learning_rate: float = Field(gt=0)
    final_learning_rate: float = Field(0.0, ge=0)
    freeze_after: float = Field(0.6, ge=0, le=1, description="share of the steps after which normalisation is frozen")
    precision: Literal["fp32", "bf16"] = "fp32"
    log_every: int = Field(20, gt=0)
    checkpoint_every: int = Field(100, gt=0)

    def model_post_init(self, _: Any) -> None:
        terms = self.loss.keys() | self.loss_to_inputs.keys() | self.loss_to_teacher.keys()
        if not terms and not self.choice:
            raise ValueError("there is nothing to learn by: give a 'loss', such as loss: {intensity: 1}")
        if bool(self.loss_to_teacher) != (self.teacher is not None) or "correlation" in self.loss_to_teacher:
            raise ValueError(
                "'teacher' and 'loss_to_teacher' go together, and there is no 'correlation' with one picture"
            )
        if unknown := terms - TERMS.keys():
            raise ValueError(f"there is no loss term {sorted(unknown)[0]!r}; there is: {', '.join(TERMS)}")
        if self.crop < NEEDS and (small := terms & WIDE_TERMS):
            raise ValueError(f"crop is {self.crop}; the term {sorted(small)[0]!r} needs crops of {NEEDS} px and more")
        if self.sources > 2 and self.model == "realtime" and not self.options.get("symmetric"):
            raise ValueError("'sources' is more than 2: realtime takes so many only with options: {symmetric: true}")
        if self.choice and (self.task != "focus" or not self.options.get("choice")):
            raise ValueError("'choice' is for task focus, where the right one is known, and options: {choice: true}")

    def digest(self) -> str:
        """Changes when a setting that shapes the weights does, or the weights it begins with or learns from.

        Of the weights counts what is in the files, not where they lie. The training pictures are not looked into.
        """
        # What is left at its default counts for nothing, so that a setting added later changes no digest.
        shaping = self.model_dump(
            mode="json", exclude={"weights", "run", "log_every", "checkpoint_every"}, exclude_defaults=True
        )
        for name in ("start", "teacher"):
            if path := getattr(self, name):
                shaping[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        return hashlib.sha256(yaml.safe_dump(shaping, sort_keys=True).encode()).hexdigest()[:16]


def read_config(path: Path, overrides: Sequence[str] = ()) -> TrainingConfig:
    """A training config from YAML, with `setting=value` from the command line put in.

    Raises:
        ConfigError: a `ValueError` that says in one line what is wrong.
    """
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path}: a training config is a mapping of settings")
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{text!r}: an override is written setting=value")
        try:
            settings[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"{text!r}: the value is not valid YAML") from error
    try:
        return TrainingConfig.model_validate(settings)
    except ValidationError as error:
        mistake = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in mistake["loc"]) or "settings"
        raise ConfigError(f"{path}: {where}: {mistake['msg'].removeprefix('Value error, ')}") from error
