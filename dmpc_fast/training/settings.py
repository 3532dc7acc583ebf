"""Settings of a training run: one frozen dataclass, stored in the run's folder as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dmpc_fast.spec import STAGES

#: What settings that are words may say.
CHOICES = {
    "precision": ("auto", "float32", "bf16"),
    "kernels": ("torch", "triton"),
    "proposal_angles": ("all", "sampler"),
    "dynamics_angles": ("all", "sampler"),
    "weighted_return": ("episode", "to-go"),
}

#: Processor features, by torch's names, that multiply bfloat16 as such.
BFLOAT16_UNITS = ("avx512_bf16", "amx_bf16", "bf16")


def fast_precision(device: str | None = None) -> Literal["float32", "bf16"]:
    """The precision that a device, CUDA where present if None, trains fastest in: without units for
    bfloat16, emulated products take tens of times as long as float32's."""
    import torch

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if torch.device(place).type != "cpu":
        return "bf16"
    features = torch.cpu.get_capabilities()
    return "bf16" if any(map(features.get, BFLOAT16_UNITS)) else "float32"


def on_device(settings: Mapping[str, Any], device: str | None) -> dict[str, Any]:
    """`settings` with the precision for `device` where they leave it open."""
    given = {"precision": "auto", **settings}
    return given if given["precision"] != "auto" else {**given, "precision": fast_precision(device)}


@dataclass(frozen=True)
class TrainingSettings:
    """How the stages of a model are trained.

    steps: optimiser steps per stage. batch_size: windows per step over all processes. warmup: steps of
    linear warm-up; cosine decay to 0 follows. ema_decay: of the weights that ship, ramped up at the
    start. clip_norm: largest gradient norm. precision: of matrix products (autocast in bf16; weights,
    optimiser and residuals stay float32); auto becomes bf16 where a GPU or the processor has units for
    it, else float32 (`fast_precision`; `train`, `finetune` and `distill` ask for their device's own,
    `on_device`). compile: torch.compile the loss. kernels: what computes the blocks of networks, torch
    or fused Triton kernels, which need a CUDA device. validation_fraction: share of episodes held out.
    checkpoint_every, validate_every: in steps. return_temperature: how strongly the proposal prefers
    episodes of high return, in standard deviations of the episode return (weights exp(return /
    temperature)); None for all data alike. weighted_return: of the whole episode, or the discounted
    return to-go of each window. return_condition: the proposal is told how good the episode
    is that a window is from (its rank among the returns, 0 to 1), which the model then takes as its
    context: 1 asks for what the best ones did. The dynamics always learn from all data.
    objective_temperature: the same for the objective: with it the value is that of the behaviour that
    the proposal imitates. start_fraction: share of every batch that is drawn from the first start_steps
    steps of episodes alone (None: the horizon): where episodes are long, they hold few windows in which
    the robot gets going. value_expectile: which expectile of the return the value is (0.5: the mean;
    above: of the better part of the behaviour, Kostrikov et al. 2022). value_bootstrap: the value learns
    from the next horizon's rewards and its own value there, not from the return of the behaviour.
    state_noise: standard deviation, in normalised units, of noise on the states that the objective is
    trained on. history_noise: the same for the states that the proposal is told, so that it learns what
    to do beside those of the data. predicted_states: share of the objective's examples whose states are
    those that the dynamics model predicts, as they are in planning. muon: stages that learn by Muon, at
    muon_learning_rate; others by AdamW, at learning_rate. dynamics_angles: noise angles that the
    dynamics learn at: all, or those alone at which their sampler asks them; of one step that is pure
    noise, where the answer is the mean of what may follow. proposal_angles: the same for the proposal;
    of two steps that is a regression on the mean and one that refines it. horizon_weighting: power of
    the weights of the horizon's steps in the dynamics' loss, see `step_weights`; 0 weighs all alike.
    mirror_states, mirror_actions: the robot's symmetry, for each dimension the one whose value it has in
    the mirrored robot, with a leading minus where the sign turns; half of the windows of mirror_stages
    are then mirrored. Both or neither; the proposal is left out by default (docs/recipes.md says what it
    lost). threads: torch threads, None for torch's own choice.
    """

    steps: dict[str, int]
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup: int = 250
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    precision: Literal["auto", "float32", "bf16"] = "auto"
    compile: bool = True
    kernels: Literal["torch", "triton"] = "torch"
    validation_fraction: float = 0.05
    validate_every: int = 500
    checkpoint_every: int = 500
    log_every: int = 50
    seed: int = 0
    return_temperature: float | None = None
    weighted_return: Literal["episode", "to-go"] = "episode"
    return_condition: bool = False
    objective_temperature: float | None = None
    start_fraction: float = 0.0
    start_steps: int | None = None
    value_expectile: float = 0.5
    value_bootstrap: bool = False
    state_noise: float = 0.0
    history_noise: float = 0.0
    predicted_states: float = 0.0
    muon: tuple[str, ...] = ()
    muon_learning_rate: float = 3e-3
    proposal_angles: Literal["all", "sampler"] = "all"
    dynamics_angles: Literal["all", "sampler"] = "all"
    horizon_weighting: float = 0.0
    mirror_states: tuple[str, ...] = ()
    mirror_actions: tuple[str, ...] = ()
    mirror_stages: tuple[str, ...] = ("dynamics", "objective")
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, count in self.steps.items():
            if name not in STAGES:
                raise ValueError(f"steps has the unknown stage {name!r}; stages: {STAGES}")
            if count < 1:
                raise ValueError(f"steps of {name} must be at least 1, got {count}")
        if self.precision == "auto":
            # Resolved once: a run that is continued elsewhere keeps what it began with.
            object.__setattr__(self, "precision", fast_precision())
        # A list, as JSON and the command line have it, would make equal settings differ.
        for name in ("muon", "mirror_states", "mirror_actions", "mirror_stages"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if bool(self.mirror_states) != bool(self.mirror_actions):
            raise ValueError(
                "mirror_states and mirror_actions go together, got "
                f"{self.mirror_states} and {self.mirror_actions}"
            )
        for setting in ("muon", "mirror_stages"):
            for name in getattr(self, setting):
                if name not in STAGES:
                    raise ValueError(f"{setting} has the unknown stage {name!r}; stages: {STAGES}")
        if not (math.isfinite(self.muon_learning_rate) and self.muon_learning_rate > 0):
            raise ValueError(
                f"muon_learning_rate must be finite and positive, got {self.muon_learning_rate}"
            )
        for name in ("batch_size", "validate_every", "checkpoint_every", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("return_temperature", "objective_temperature"):
            temperature = getattr(self, name)
            if temperature is not None and not temperature > 0:
                raise ValueError(f"{name} must be positive, got {temperature}")
        if not 0 <= self.start_fraction < 1:
            raise ValueError(f"start_fraction must lie in [0, 1), got {self.start_fraction}")
        if not 0 < self.value_expectile < 1:
            raise ValueError(
                f"value_expectile must lie between 0 and 1, got {self.value_expectile}"
            )
        for name in ("state_noise", "history_noise"):
            deviation = getattr(self, name)
            if not (math.isfinite(deviation) and deviation >= 0):
                raise ValueError(f"{name} must be finite and at least 0, got {deviation}")
        if not 0 <= self.predicted_states <= 1:
            raise ValueError(f"predicted_states must lie in [0, 1], got {self.predicted_states}")
        if not (math.isfinite(self.horizon_weighting) and self.horizon_weighting >= 0):
            raise ValueError(
                f"horizon_weighting must be finite and at least 0, got {self.horizon_weighting}"
            )
        if self.start_steps is not None and self.start_steps < 1:
            raise ValueError(f"start_steps must be at least 1, got {self.start_steps}")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                wanted = " or ".join(map(repr, allowed))
                raise ValueError(f"{name} must be {wanted}, got {getattr(self, name)!r}")
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction must lie between 0 and 1, got {self.validation_fraction}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), got {self.ema_decay}")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"seed must be an integer from 0 to 2^63 - 1, got {self.seed}")

    def rate(self, stage: str) -> float:
        """The highest learning rate of a stage."""
        return self.muon_learning_rate if stage in self.muon else self.learning_rate

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
