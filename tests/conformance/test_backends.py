"""Every available backend, in every dtype that it runs, against torch in float64.

Backends are those of the registry: a new one is tested without a change here. Stages are compared
one by one on the reference's own inputs, since a chain of stages amplifies differences.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from bounds import DRAWS, DTYPES, at_ceiling, displaced, error, limit
from cases import CASES, Case, build
from random_models import random_model

from dmpc_fast.backends import registry
from dmpc_fast.backends.base import Backend, BackendUnavailableError, PlanRequest
from dmpc_fast.model_file import Model

#: Draws until a model is found that does not amplify roundings up to the ceiling.
TRIES = 20
BACKENDS = [name for name, reason in registry.available().items() if reason is None]


def variants() -> list[tuple[str, str]]:
    """The backends and dtypes that run here."""
    model, found = random_model(np.random.default_rng(0)), []
    for name in BACKENDS:
        for dtype in DTYPES:
            try:
                registry.create(name, model, dtype=dtype)
            except BackendUnavailableError:
                continue
            found.append((name, dtype))
    return found


class Reference(NamedTuple):
    """A case in float64: what each stage must give, and what roundings of each dtype do to it."""

    model: Model
    request: PlanRequest
    backend: Backend
    actions: np.ndarray
    states: np.ndarray
    ranking: tuple[np.ndarray, np.ndarray, np.ndarray]
    rounding_errors: dict[str, float]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def reference(request: pytest.FixtureRequest) -> Reference:
    for _ in range(TRIES):
        found = drawn(request.param)
        if not any(at_ceiling(dtype, value) for dtype, value in found.rounding_errors.items()):
            return found
    raise AssertionError(f"{TRIES} models in a row make more of roundings than the ceiling allows")


def drawn(case: Case) -> Reference:
    """Fresh random weights and inputs."""
    model, plan_request = build(case, np.random.default_rng())
    backend = registry.create("torch", model, dtype="float64")
    actions = backend.sample(plan_request)
    states = backend.predict(plan_request, actions)
    ranking = backend.score(plan_request, states, actions)
    result = Reference(model, plan_request, backend, actions, states, ranking, {})
    generator = np.random.default_rng()
    for dtype in DTYPES:
        # One figure for all stages: that of a single stage may be small by chance where it is the
        # error of a handful of numbers.
        found = [stage_errors(registry.create("torch", model, dtype=dtype), dtype, result)]
        for _ in range(DRAWS):
            moved = registry.create("torch", displaced(model, dtype, generator), dtype="float64")
            found.append(stage_errors(moved, "float64", result))
        result.rounding_errors[dtype] = max(max(errors.values()) for errors in found)
    return result


@pytest.fixture(params=variants(), ids="-".join)
def backend(request: pytest.FixtureRequest, reference: Reference) -> tuple[Backend, str]:
    name, dtype = request.param
    return registry.create(name, reference.model, dtype=dtype), dtype


def edge(dtype: str, array: np.ndarray) -> np.ndarray:
    """An array in the dtype of that backend's edge."""
    return array.astype(np.float64 if dtype == "float64" else np.float32)


def stage_errors(backend: Backend, dtype: str, reference: Reference) -> dict[str, float]:
    """Error of every output, each stage given the reference's own inputs."""
    request = reference.request
    actions, states = edge(dtype, reference.actions), edge(dtype, reference.states)
    found = {
        "actions": error(backend.sample(request), reference.actions),
        "states": error(backend.predict(request, actions), reference.states),
    }
    names = ("scores", "violations", "tie_breaks")
    ranking = backend.score(request, states, actions)
    for name, ours, theirs in zip(names, ranking, reference.ranking, strict=True):
        found[name] = error(ours, theirs)
    return found


def test_stages(backend: tuple[Backend, str], reference: Reference) -> None:
    engine, dtype = backend
    bound = limit(dtype, reference.rounding_errors[dtype])
    errors = stage_errors(engine, dtype, reference)
    assert all(value <= bound for value in errors.values()), (errors, bound)


def test_fused_plan(backend: tuple[Backend, str], reference: Reference) -> None:
    engine, dtype = backend
    request, bound = reference.request, limit(dtype, reference.rounding_errors[dtype])
    plan = engine.plan(request)
    assert plan.best.dtype == np.int64
    assert plan.best.shape == (len(request.states),)
    # The reference takes up each stage where this backend left the one before.
    states = reference.backend.predict(request, plan.actions.astype(np.float64))
    inputs = plan.states.astype(np.float64), plan.actions.astype(np.float64)
    scores, violations, tie_breaks = reference.backend.score(request, *inputs)
    errors = {
        "actions": error(plan.actions, reference.actions),
        "states": error(plan.states, states),
        "scores": error(plan.scores, scores),
        "violations": error(plan.violations, violations),
    }
    assert all(value <= bound for value in errors.values()), (errors, bound)
    for robot, best in enumerate(plan.best):
        rows = np.stack([-violations[robot], scores[robot], tie_breaks[robot]], axis=-1)
        assert not clearly_beaten(rows, int(best), bound), (rows, best)


def clearly_beaten(rows: np.ndarray, chosen: int, bound: float) -> bool:
    """Whether another candidate ranks above the chosen one by more than the bound.

    rows (N, 3): what is maximised first, second and third.
    """
    margins = bound * np.maximum(1.0, np.sqrt(np.mean(np.square(rows), axis=0)))
    for row in rows:
        for value, own, margin in zip(row, rows[chosen], margins, strict=True):
            if value > own + margin:
                return True
            if value != own:
                break
    return False


def test_results_are_pure_and_their_own(backend: tuple[Backend, str], reference: Reference) -> None:
    """The same call gives the same bits, whatever ran in between, and nothing is overwritten."""
    engine, dtype = backend
    request = reference.request
    actions, states = edge(dtype, reference.actions), edge(dtype, reference.states)

    def everything(request: PlanRequest) -> list[np.ndarray]:
        plan = engine.plan(request)
        results = [engine.sample(request), engine.predict(request, actions)]
        results += engine.score(request, states, actions)
        return [*results, plan.best, plan.actions, plan.states, plan.scores, plan.violations]

    first = everything(request)
    kept = [array.copy() for array in first]
    other = PlanRequest(**{**vars(request), "seed": request.seed ^ 1, "states": -request.states})
    changed = everything(other)
    # Not of each: a tiny model may have every action at a bound.
    assert not all(np.array_equal(*pair) for pair in zip(changed, first, strict=True))
    for again, before, copy in zip(everything(request), first, kept, strict=True):
        assert np.array_equal(again, copy)
        assert np.array_equal(before, copy)
        assert before.flags.c_contiguous


def test_violations_rank_before_scores_and_ties_go_to_the_tie_break() -> None:
    assert not clearly_beaten(np.array([[0.0, 5, 1], [-1, 9, 2]]), 0, 1e-6)
    assert clearly_beaten(np.array([[0.0, 5, 1], [-1, 9, 2]]), 1, 1e-6)
    assert clearly_beaten(np.array([[0.0, 0, -9], [0, 0, -8]]), 0, 1e-6)
    assert not clearly_beaten(np.array([[0.0, 0, -9], [0, 1e-9, -20]]), 0, 1e-6)
