"""Whole plans of the backend against the float64 reference, on small models: the interpreter is slow.

`TRITON_INTERPRET=1 pytest tests/conformance -k triton` runs the suite of all backends, in minutes.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from bounds import DRAWS, DTYPES, displaced, error, limit
from cases import ALL_TERMS, STEP_1, Case, build
from random_models import random_model

from dmpc_fast.backends import registry
from dmpc_fast.backends.base import Backend, BackendUnavailableError, PlanRequest
from dmpc_fast.backends.triton import backend as adapter
from dmpc_fast.kernels.precision import PRECISIONS
from dmpc_fast.objectives import GaussianTarget, best_candidate
from dmpc_fast.planning.planner import Planner
from dmpc_fast.spec import SamplerSpec

SMALL: dict[str, Any] = {
    "layers": 1, "width": 17, "heads": 2, "head_size": 5, "mlp": 19, "dynamics": STEP_1,
    "proposal": SamplerSpec.uniform(2),
}  # fmt: skip
CASES = (
    Case("smallest", {**SMALL, "state": 1, "action": 1, "horizon": 1, "width": 1, "heads": 1,
                      "head_size": 1, "mlp": 1, "proposal": STEP_1}, counts=(1,)),
    Case("history", {**SMALL, "history": 3, "context": 2, "patch": 3, "history_tokens": True,
                     "members": 2}),
    Case("groups", {**SMALL, "layers": 2}, robots=1, counts=(3, 2)),
    Case("jumps", {**SMALL, "proposal": SamplerSpec("consistency", (1.5, 0.6))}, extremes=True),
    Case("all-terms", {**SMALL, "patch": 2, "members": 2}, robots=1, counts=(40,), terms=ALL_TERMS),
    Case("built-in-terms", SMALL, robots=1, counts=(9,), terms=ALL_TERMS[3:8]),
)  # fmt: skip
#: TF32 is torch's float32 with operands cut, not rounded, to 11 bits: its unit is a whole last place,
#: a quarter of bf16's half one, and so is its ceiling.
BOUNDS = {**DTYPES, "tf32": (2.0**-10, DTYPES["bf16"][1] / 4)}


def create(case: Case, dtype: str) -> tuple[Backend, PlanRequest]:
    model, request = build(case, np.random.default_rng())
    return registry.create("triton", model, dtype=dtype), request


def outputs(backend: Backend, request: PlanRequest, given: list[np.ndarray]) -> list[np.ndarray]:
    """Actions, states, scores, violations, tie-breaks, each stage given the reference's inputs."""
    actions, states = given
    return [backend.sample(request), backend.predict(request, actions),
            *backend.score(request, states, actions)]  # fmt: skip


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_stages(case: Case, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bounds.DTYPES", BOUNDS)
    generator = np.random.default_rng()
    model, request = build(case, generator)
    exact = registry.create("torch", model, dtype="float64")
    actions = exact.sample(request)
    given = [actions, exact.predict(request, actions)]
    expected = outputs(exact, request, given)
    # torch has no TF32 on a CPU: what it adds to float32 is the rounding of operands.
    like = registry.create("torch", model, dtype="float32" if dtype == "tf32" else dtype)
    single = [array.astype(np.float32) for array in given]
    found = [outputs(like, request, single)]
    for _ in range(DRAWS):
        moved = registry.create("torch", displaced(model, dtype, generator), dtype="float64")
        found.append(outputs(moved, request, given))
    bound = limit(
        dtype, max(error(*pair) for one in found for pair in zip(one, expected, strict=True))
    )
    ours = outputs(registry.create("triton", model, dtype=dtype), request, single)
    errors = [error(*pair) for pair in zip(ours, expected, strict=True)]
    assert max(errors) <= bound, (errors, bound)


@pytest.mark.parametrize("case", [CASES[1], CASES[2]], ids=lambda case: case.name)
def test_a_plan_chains_its_stages_and_ranks_them(case: Case) -> None:
    backend, request = create(case, "bf16")
    plan = backend.plan(request)
    actions = backend.sample(request)
    states = backend.predict(request, actions)
    assert np.array_equal(plan.actions, actions)
    # The stages normalise what they are given again, which rounds.
    np.testing.assert_allclose(plan.states, states, atol=0.05, rtol=0.05)
    scores, violations, tie_breaks = backend.score(request, plan.states, plan.actions)
    np.testing.assert_allclose(plan.scores, scores, atol=0.2, rtol=0.05)
    best = plan.best
    assert best.dtype == np.int64
    assert np.array_equal(best, best_candidate(plan.scores, plan.violations, tie_breaks))
    assert violations.shape == plan.violations.shape


def test_work_that_is_shared_out_gives_the_same_plan() -> None:
    """A chip of many processors has programs share heads and hidden columns."""
    case = dataclasses.replace(CASES[2], sizes={**CASES[2].sizes, "heads": 5, "mlp": 130})
    model, request = build(case, np.random.default_rng())
    whole = registry.create("triton", model)
    shared = registry.create("triton", model, processors=5)
    first, second = whole.plan(request), shared.plan(request)
    np.testing.assert_allclose(first.actions, second.actions, atol=2e-5)
    np.testing.assert_allclose(first.states, second.states, atol=1e-4)


def test_plans_are_pure_whatever_ran_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "MAX_PROGRAMS", 1)
    backend, request = create(CASES[1], "float32")
    first = backend.plan(request)
    kept = [array.copy() for array in (first.actions, first.states, first.scores)]
    other = dataclasses.replace(
        request, seed=request.seed ^ 1, objective=(GaussianTarget(0, 1, 1),)
    )
    assert not np.array_equal(backend.plan(other).actions, first.actions)
    again = backend.plan(request)
    for array, copy, now in zip(
        (first.actions, first.states, first.scores), kept,
        (again.actions, again.states, again.scores), strict=True,
    ):  # fmt: skip
        assert np.array_equal(array, copy)
        assert np.array_equal(now, copy)


def test_what_cannot_run_says_why() -> None:
    rng = np.random.default_rng()
    with pytest.raises(BackendUnavailableError, match="'triton' runs dtype.*'int8'"):
        registry.create("triton", random_model(rng), dtype="int8")
    with pytest.raises(BackendUnavailableError, match="stages.proposal: tokens must be at most"):
        registry.create("triton", random_model(rng, horizon=129, **SMALL))
    with pytest.raises(ValueError, match="processors must be 1 or more, got 0"):
        registry.create("triton", random_model(rng), processors=0)
    backend, request = create(CASES[0], "float32")
    with pytest.raises(ValueError, match="keeps no deadlines"):
        backend.plan(dataclasses.replace(request, deadline_s=1.0))
    levels = np.zeros((len(request.states), request.num_samples), np.int8)
    with pytest.raises(ValueError, match="plans everything"):
        backend.plan(dataclasses.replace(request, levels=levels))


def test_a_planner_runs_on_it_by_name_and_never_by_default() -> None:
    model, request = build(CASES[0], np.random.default_rng())
    planner = Planner.load(model, backend="triton", num_samples=2)
    assert planner.backend == "triton"
    assert planner.act(request.states[0, -1]).shape == (1,)
    assert Planner.load(model, num_samples=2).backend != "triton"
