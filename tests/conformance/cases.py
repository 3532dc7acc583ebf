"""Models and requests that every backend must agree on: odd sizes first of all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from random_models import random_model

from dmpc_fast.backends.base import CandidateGroup, PlanRequest
from dmpc_fast.model_file import Model
from dmpc_fast.objectives import (
    ActionCost,
    Alive,
    GaussianTarget,
    LearnedReward,
    LearnedValue,
    QuadraticTarget,
    Speed,
    StateBound,
    Term,
)
from dmpc_fast.spec import SamplerSpec


@dataclass(frozen=True)
class Case:
    """One model and one request.

    sizes: arguments of `random_model`. robots: B. counts: candidates per group; groups after the
    first start from given actions, re-noised, with samplers of their own. terms: the objective.
    extremes: whether seed, robots and plan index are the largest there are.
    """

    name: str
    sizes: dict[str, Any] = field(default_factory=dict)
    robots: int = 2
    counts: tuple[int, ...] = (7,)
    terms: tuple[Term, ...] | None = None
    extremes: bool = False


ALL_TERMS = (
    LearnedReward(0.8),
    LearnedValue(0.5),
    Alive(1.5),
    GaussianTarget(0, 0.5, 0.3, 2.0),
    GaussianTarget(2, 0.0, 0.5, -1.0),
    QuadraticTarget(1, 0.4, 0.3),
    Speed(3, -0.5, 0.7),
    ActionCost(0.2),
    StateBound(4, low=-1.0, high=1.0),
    StateBound(2, low=-0.5),
)
STEP_1, STEPS_32 = SamplerSpec.uniform(1), SamplerSpec.uniform(32)
JUMPS_4 = SamplerSpec("consistency", (1.5, 1.1, 0.6, 0.2))

CASES = (
    Case("plain"),
    Case(
        "smallest",
        {"state": 1, "action": 1, "horizon": 1, "layers": 1, "width": 1, "heads": 1,
         "head_size": 1, "mlp": 1, "proposal": STEP_1, "dynamics": STEP_1},
        robots=5,
        counts=(1,),
    ),
    Case("one-candidate", {"patch": 2}, robots=3, counts=(1,)),
    Case("one-step-horizon", {"horizon": 1}, counts=(5,)),
    Case("one-token", {"patch": 6, "layers": 1}, counts=(33,)),
    Case(
        "history",
        {"history": 3, "context": 2, "patch": 3, "history_tokens": True, "members": 3},
        robots=3,
    ),
    Case("fourier", {"positions": "fourier", "heads": 1, "head_size": 7, "width": 17, "mlp": 33}),
    Case("aligned", {"state": 17, "action": 6, "horizon": 32, "patch": 4, "width": 64, "heads": 4,
                     "head_size": 16, "mlp": 128}, robots=1, counts=(64,)),
    Case("long", {"horizon": 65, "layers": 1}, robots=1, counts=(9,)),
    Case(
        "stages-differ",
        {"stages": {"proposal": {"patch": 3, "width": 31},
                    "dynamics": {"layers": 3, "heads": 5, "mlp": 7},
                    "objective": {"layers": 1, "patch": 2, "head_size": 9}}},
    ),
    Case("many-steps", {"proposal": STEPS_32, "dynamics": STEPS_32}, robots=1),
    Case("jumps", {"proposal": JUMPS_4, "dynamics": STEP_1}),
    Case("groups", {"history": 2}, counts=(3, 1, 18)),
    Case("extremes", extremes=True),
    Case("all-terms", {"members": 2}, counts=(40,), terms=ALL_TERMS),
    Case("built-in-terms", counts=(19,), terms=ALL_TERMS[3:8]),
    Case("constraints", counts=(19,), terms=(LearnedValue(), *ALL_TERMS[8:])),
    Case("far-target", counts=(19,), terms=(GaussianTarget(0, 40.0, 5e-4, 5.0),)),
)  # fmt: skip


def build(case: Case, rng: np.random.Generator) -> tuple[Model, PlanRequest]:
    """The case's model and request with fresh random values."""
    model = random_model(rng, **case.sizes)
    spec, robots = model.spec, case.robots

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    past = spec.history - 1
    known = rng.integers(0, past + 1, size=(robots, 1))
    last_index, last_robot = (2**32 - 1, 65535) if case.extremes else (1000, 100)
    request = PlanRequest(
        states=normal(robots, spec.history, spec.state_size),
        actions=normal(robots, past, spec.action_size),
        mask=(np.arange(past) >= past - known).astype(np.float32),
        context=normal(robots, spec.context),
        seed=2**64 - 1 if case.extremes else int(rng.integers(0, 2**63)),
        robots=last_robot - np.arange(robots, dtype=np.int64),
        plan_index=last_index - rng.integers(0, 2, size=robots),
        groups=tuple(
            CandidateGroup(count)
            if number == 0
            else CandidateGroup(
                count,
                SamplerSpec(("ddim", "consistency")[number % 2], (0.9 / number, 0.3 / number)),
                SamplerSpec.uniform(1 + number),
                0.5 * normal(robots, count, spec.horizon, spec.action_size),
            )
            for number, count in enumerate(case.counts)
        ),
        objective=case.terms,
    )
    return model, request
