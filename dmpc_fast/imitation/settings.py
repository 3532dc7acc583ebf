"""How a policy is made: one frozen dataclass, kept in the run's folder and in the file's provenance."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from dmpc_fast.evaluation.evaluate import FIRST_EVALUATION_SEED

#: Environment seeds of the episodes that policies learn from: apart from those that settings are
#: tuned on and those of evaluations.
FIRST_SEED = 5_000
#: Episodes that have seeds of their own before those of evaluations; more begin again.
EPISODES = FIRST_EVALUATION_SEED - FIRST_SEED


@dataclass(frozen=True)
class ImitationSettings:
    """Rounds of DAgger (Ross, Gordon & Bagnell 2011) and the fit after each.

    rounds: of driving and fitting. round_states: states that each adds, at least. expert_share: in
    round i the planner drives a share of expert_share^i of the episodes, the policy the others; the
    planner says in every state what it would do. robots: episodes at once.
    layers, width: of the policy. steps: optimiser steps of the last fit; those before take a third.
    batch_size, learning_rate, ema_decay: of every fit. seed: of fits, draws and plans.
    num_samples, num_elites: of the planner, the file's recommendation where None. backend, dtype:
    that plan.
    """

    rounds: int = 6
    round_states: int = 20_000
    expert_share: float = 0.5
    robots: int = 20
    layers: int = 2
    width: int = 256
    steps: int = 12_000
    batch_size: int = 512
    learning_rate: float = 1e-3
    ema_decay: float = 0.999
    seed: int = 0
    num_samples: int | None = None
    num_elites: int | None = None
    backend: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name in ("rounds", "round_states", "robots", "layers", "width", "steps", "batch_size"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be an integer of at least 1, got {value!r}")
        for name in ("expert_share", "ema_decay"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if not 0 <= self.seed < 1 << 63:
            raise ValueError(f"seed must be an integer from 0 to 2^63 - 1, got {self.seed}")

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> ImitationSettings:
        values = json.loads(text)
        names = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            raise ValueError(f"the run's settings must have the keys {sorted(names)}")
        return cls(**values)
