"""Settings of a training run: one frozen dataclass, stored in the run's folder as JSON."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Literal

from dmpc_fast.spec import STAGES


@dataclass(frozen=True)
class TrainingSettings:
    """How the stages of a model are trained.

    steps: optimiser steps per stage. batch_size: windows per step over all processes.
    warmup: steps of linear warm-up; cosine decay to 0 follows. ema_decay: of the weights that
    ship, ramped up at the start. clip_norm: largest gradient norm. precision: of matrix products
    (autocast in bf16; weights, optimiser and residuals stay float32). compile: torch.compile the
    loss. validation_fraction: share of episodes held out. checkpoint_every, validate_every: in
    steps. return_temperature: how strongly the proposal prefers episodes of high return, in standard
    deviations of the episode return (weights exp(return / temperature)); None for all data alike.
    Dynamics and objective always learn from all data. start_fraction: share of every batch that is
    drawn from the first start_steps steps of episodes alone (None: the horizon): where episodes are
    long, they hold few windows in which the robot gets going. threads: torch threads, None for torch's
    own choice.
    """

    steps: dict[str, int]
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup: int = 250
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    precision: Literal["float32", "bf16"] = "bf16"
    compile: bool = True
    validation_fraction: float = 0.05
    validate_every: int = 500
    checkpoint_every: int = 500
    log_every: int = 50
    seed: int = 0
    return_temperature: float | None = None
    start_fraction: float = 0.0
    start_steps: int | None = None
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, count in self.steps.items():
            if name not in STAGES:
                raise ValueError(f"steps has the unknown stage {name!r}; stages: {STAGES}")
            if count < 1:
                raise ValueError(f"steps of {name} must be at least 1, got {count}")
        for name in ("batch_size", "validate_every", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.return_temperature is not None and not self.return_temperature > 0:
            raise ValueError(f"return_temperature must be positive, got {self.return_temperature}")
        if not 0 <= self.start_fraction < 1:
            raise ValueError(f"start_fraction must lie in [0, 1), got {self.start_fraction}")
        if self.start_steps is not None and self.start_steps < 1:
            raise ValueError(f"start_steps must be at least 1, got {self.start_steps}")
        if self.precision not in ("float32", "bf16"):
            raise ValueError(f"precision must be 'float32' or 'bf16', got {self.precision!r}")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction must lie between 0 and 1, got {self.validation_fraction}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"seed must be an integer from 0 to 2^63 - 1, got {self.seed}")

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> TrainingSettings:
        values: dict[str, Any] = json.loads(text)
        names = {field.name for field in dataclasses.fields(cls)}
        if set(values) != names:
            wrong = sorted(set(values) ^ names)
            raise ValueError(f"training settings are of another version: keys {wrong} differ")
        return cls(**values)
