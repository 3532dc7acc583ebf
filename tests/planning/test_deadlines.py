"""Plans under a deadline: what is left out, that the rest stays, and that a record makes it again.

Only deadlines of no time and of more than enough appear here, so no test depends on the machine.
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from random_models import random_model

from dmpc_fast.backends.base import NOT_PLANNED, CandidateGroup, Level, PlanRequest
from dmpc_fast.backends.cpu_backend import CpuBackend
from dmpc_fast.model_file import Model
from dmpc_fast.planning.plan import Plan
from dmpc_fast.planning.planner import Planner
from dmpc_fast.planning.warm_start import WarmStart
from dmpc_fast.spec import SamplerSpec

ARRAYS = ("action", "best", "actions", "states", "scores", "violations")
SAMPLES = 100  # more than the engine takes at once
WRONG: list[Any] = [-1e-3, math.nan, -math.inf, "soon", True]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


@pytest.fixture
def model(rng: np.random.Generator) -> Model:
    return random_model(
        rng,
        history=2,
        proposal=SamplerSpec.uniform(4),
        dynamics=SamplerSpec.uniform(2, "consistency"),
    )


def make(model: Model, **options: Any) -> Planner:
    return Planner.load(
        model, **{"backend": "cpu", "threads": 1, "num_samples": SAMPLES, **options}
    )


def same(a: Plan, b: Plan) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True) for name in ARRAYS
    )


def assert_least(level: Level) -> None:
    """A chunk at the lowest level and nothing else."""
    assert 0 < level.candidates < SAMPLES
    assert (level.full, level.proposal_steps, level.dynamics_steps) == (0, 1, 1)
    assert level.missed
    assert not level.complete


def test_no_time_leaves_one_chunk_at_the_lowest_level(
    model: Model, rng: np.random.Generator
) -> None:
    plan = make(model).plan(rng.normal(size=5), deadline_s=0)
    assert_least(plan.level)
    planned = np.isfinite(plan.scores)
    assert planned.sum() == plan.level.candidates
    assert np.isfinite(plan.actions[planned]).all()
    assert np.isfinite(plan.states[planned]).all()
    assert np.isnan(plan.actions[~planned]).all()
    assert np.isneginf(plan.scores[~planned]).all()
    assert plan.best == np.argmax(plan.scores)
    assert np.array_equal(plan.action, plan.actions[plan.best, 0])


def test_time_enough_changes_nothing(model: Model, rng: np.random.Generator) -> None:
    free, timed = make(model), make(model, deadline_s=60)
    for obs in rng.normal(size=(3, 5)):
        expected, plan = free.plan(obs), timed.plan(obs)
        assert same(expected, plan)
        assert plan.level == expected.level == Level(SAMPLES, SAMPLES, 4, 2, True, False)
        assert np.array_equal(free.act(obs), timed.act(obs))
        assert plan.record() == expected.record()


def test_a_call_has_its_own_deadline(model: Model, rng: np.random.Generator) -> None:
    planner, obs = make(model, deadline_s=0.0), rng.normal(size=5)
    assert planner.deadline_s == 0.0
    assert not planner.plan(obs).level.complete
    assert planner.plan(obs, deadline_s=math.inf).level.complete
    action = planner.act(obs, deadline_s=60.0)
    assert np.array_equal(action, make(model).act(obs))
    planner.act(obs)
    assert planner.last_plan is not None
    assert_least(planner.last_plan.level)


def test_a_cut_plan_is_replayed(model: Model, rng: np.random.Generator) -> None:
    planner, obs = make(model, seed=4), rng.normal(size=5)
    plan = planner.plan(obs, deadline_s=0.0)
    again = make(model, threads=2).replay(json.loads(json.dumps(plan.record())))
    assert same(plan, again)
    assert again.level == dataclasses.replace(plan.level, missed=False)
    assert again.record() == plan.record()


def test_every_robot_has_a_plan(model: Model, rng: np.random.Generator) -> None:
    """Also with a warm start, where some robots start from their last plan and others do not."""
    planner = make(model, num_robots=3, warm_start=WarmStart(fresh=0.4), deadline_s=0.0)
    observations = rng.normal(size=(3, 5))
    planner.act(observations)
    planner.reset(robots=[1])
    actions = planner.act(observations)
    plan = planner.last_plan
    assert plan is not None
    assert np.isfinite(actions).all()
    assert np.isfinite(plan.scores).any(axis=1).all()
    assert plan.level.candidates == np.isfinite(plan.scores).sum(axis=1).min()
    assert same(plan, planner.replay(plan.record()))


def test_levels_say_what_is_planned(model: Model, rng: np.random.Generator) -> None:
    """A candidate's result rests on its own level, not on what the others have."""
    backend = CpuBackend(model, threads=1)
    request = PlanRequest(
        states=rng.normal(size=(2, 2, 5)).astype(np.float32),
        actions=rng.normal(size=(2, 1, 3)).astype(np.float32),
        mask=np.ones((2, 1), np.float32),
        context=np.zeros((2, 0), np.float32),
        seed=int(rng.integers(1 << 60)),
        robots=np.arange(2),
        plan_index=np.zeros(2, np.int64),
        groups=(CandidateGroup(9),),
    )
    levels = rng.integers(NOT_PLANNED, 3, (2, 9)).astype(np.int8)
    levels[:, 4] = 0
    result = backend.plan(dataclasses.replace(request, levels=levels))
    for level in range(3):
        uniform = np.full_like(levels, level)
        alike = backend.plan(dataclasses.replace(request, levels=uniform))
        chosen = levels == level
        assert np.array_equal(result.scores[chosen], alike.scores[chosen])
        assert np.array_equal(result.states[chosen], alike.states[chosen])
    full = backend.plan(request)
    assert np.array_equal(full.scores[levels == 0], result.scores[levels == 0])
    assert np.isneginf(result.scores[levels == NOT_PLANNED]).all()
    assert result.levels is not None
    assert np.array_equal(result.levels, levels)
    for wrong in (levels.astype(np.int64), levels[:1], np.full_like(levels, 8)):
        with pytest.raises(ValueError, match="levels must be"):
            backend.plan(dataclasses.replace(request, levels=wrong))


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_deadlines_are_refused(model: Model, wrong: Any) -> None:
    pattern = rf"deadline_s must be .* got {wrong!r}"
    with pytest.raises(ValueError, match=pattern):
        make(model, deadline_s=wrong)
    planner = make(model)
    for call in (planner.plan, planner.act):
        with pytest.raises(ValueError, match=pattern):
            call(np.zeros(5), deadline_s=wrong)
    assert planner.plan_index == 0


def test_what_cannot_keep_a_deadline_says_so(model: Model) -> None:
    torch_planner = Planner.load(model, backend="torch", num_samples=3)
    with pytest.raises(ValueError, match="'torch' keeps no deadlines"):
        torch_planner.act(np.zeros(5), deadline_s=1.0)
    assert torch_planner.plan(np.zeros(5)).level == Level(3, 3, 4, 2, True, False)
    custom = make(model, num_samples=3)
    custom.set_objective(lambda _history, states, _actions: states.sum(axis=(1, 2)))
    with pytest.raises(ValueError, match="callable"):
        custom.plan(np.zeros(5), deadline_s=1.0)
    assert custom.plan(np.zeros(5)).level.complete


def test_another_backend_does_not_replay_a_cut_plan(model: Model, rng: np.random.Generator) -> None:
    record = make(model).plan(rng.normal(size=5), deadline_s=0.0).record()
    with pytest.raises(ValueError, match="'torch' plans everything"):
        Planner.load(model, backend="torch").replay(record)
    for wrong in ([[1000]], [[0] * (SAMPLES + 1)], "x"):
        record["requests"][0]["levels"] = wrong
        with pytest.raises(ValueError, match="levels|record"):
            make(model).replay(record)
