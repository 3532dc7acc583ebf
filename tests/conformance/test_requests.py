"""What every backend refuses, and what the registry says of backends."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
from typing import Any

import numpy as np
import pytest
from cases import Case, build
from random_models import random_model

from dmpc_fast.backends import registry
from dmpc_fast.backends.base import Backend, BackendUnavailableError, CandidateGroup, PlanRequest
from dmpc_fast.objectives import Speed
from dmpc_fast.planning.planner import Planner

BACKENDS = [name for name, reason in registry.available().items() if reason is None]
CASE = Case("refused", {"history": 2, "context": 1})


@pytest.fixture(params=BACKENDS)
def engine(request: pytest.FixtureRequest) -> tuple[Backend, PlanRequest]:
    model, plan_request = build(CASE, np.random.default_rng())
    return registry.create(request.param, model), plan_request


WRONG_REQUESTS = [
    ("states", np.zeros((2, 1, 5), np.float32)),
    ("states", np.zeros((2, 2, 5))),
    ("states", np.full((2, 2, 5), np.nan, np.float32)),
    ("actions", np.zeros((2, 2, 3), np.float32)),
    ("mask", np.zeros((1, 1), np.float32)),
    ("context", np.zeros((2, 0), np.float32)),
    ("robots", np.array([0, 1 << 16])),
    ("robots", np.array([-1, 0])),
    ("robots", np.zeros(2)),
    ("plan_index", np.zeros(3, np.int64)),
    ("groups", ()),
    ("groups", (CandidateGroup(0),)),
    ("groups", (CandidateGroup(2, start=np.zeros((2, 3, 6, 3), np.float32)),)),
    ("groups", (CandidateGroup(2, start=np.full((2, 2, 6, 3), np.nan, np.float32)),)),
    ("objective", (Speed(5, 1.0),)),
]


@pytest.mark.parametrize(("field", "value"), WRONG_REQUESTS)
def test_wrong_requests_are_refused(
    engine: tuple[Backend, PlanRequest], field: str, value: Any
) -> None:
    backend, request = engine
    wrong = dataclasses.replace(request, **{field: value})
    for call in (backend.sample, backend.plan):
        with pytest.raises(ValueError, match="must"):
            call(wrong)


def test_wrong_trajectories_are_refused(engine: tuple[Backend, PlanRequest]) -> None:
    backend, request = engine
    actions, states = np.zeros((2, 7, 6, 3), np.float32), np.zeros((2, 7, 6, 5), np.float32)
    for wrong in (actions[:, :6], actions.astype(np.float64), actions + np.float32(np.nan)):
        with pytest.raises(ValueError, match="actions must"):
            backend.predict(request, wrong)
        with pytest.raises(ValueError, match="actions must"):
            backend.score(request, states, wrong)
    with pytest.raises(ValueError, match="states must"):
        backend.score(request, states[..., :4], actions)


def test_every_known_backend_is_available_or_says_why() -> None:
    model = random_model(np.random.default_rng())
    for name, reason in registry.available().items():
        if reason is not None:
            with pytest.raises(BackendUnavailableError, match=f"{name}.*{re.escape(reason)}"):
                registry.create(name, model)
    with pytest.raises(ValueError, match="backend must be 'auto' or one of"):
        registry.create("cud", model)
    with pytest.raises(BackendUnavailableError, match="dtype 'int4'.*torch"):
        registry.create("auto", model, dtype="int4")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_auto_is_the_fastest_that_runs_the_dtype(dtype: str) -> None:
    model = random_model(np.random.default_rng())
    planner = Planner.load(model, dtype=dtype, num_samples=3)
    built = importlib.util.find_spec("dmpc_fast._engine") is not None
    assert planner.backend == ("cpu" if built and dtype == "float32" else "torch")
