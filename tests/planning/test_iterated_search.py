"""Rounds of candidates near the best ones: what they are, how they rank, and that they replay."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from typing import Any

import numpy as np
import pytest
from random_models import random_model

from dmpc_fast.backends import registry
from dmpc_fast.model_file import Model
from dmpc_fast.planning.iterated_search import IteratedSearch
from dmpc_fast.planning.plan import Plan
from dmpc_fast.planning.planner import Planner
from dmpc_fast.planning.warm_start import WarmStart

BACKENDS = [name for name in ("torch", "cpu") if registry.available()[name] is None]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


def teacher(rng: np.random.Generator) -> Model:
    """A model whose provenance tells of no student."""
    model = random_model(rng)
    return dataclasses.replace(model, spec=dataclasses.replace(model.spec, provenance={}))


def same(a: Plan, b: Plan) -> None:
    for name in ("action", "best", "actions", "states", "scores", "violations", "chosen_actions"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rounds_add_candidates_and_rank_with_the_first(
    rng: np.random.Generator, backend: str
) -> None:
    model, search = teacher(rng), IteratedSearch(rounds=2, angle=0.5, parents=3, children=7)
    options: dict[str, Any] = {"backend": backend, "num_samples": 8, "num_robots": 2, "seed": 3}
    obs = rng.normal(size=(2, model.spec.state_size))
    plain = Planner.load(model, **options).plan(obs)
    plan = Planner.load(model, search=search, **options).plan(obs)
    # Seven children of three parents are two each.
    assert plan.scores.shape == (2, 8 + 2 * 6)
    np.testing.assert_array_equal(plan.actions[:, :8], plain.actions)
    np.testing.assert_array_equal(plan.best, plan.scores.argmax(1))
    assert np.all(plan.scores.max(1) >= plain.scores.max(1))
    assert plan.level.candidates == plan.level.full == 20
    assert plan.level.complete
    # Children of one parent, and of different rounds, have different noise.
    assert len(np.unique(plan.actions.reshape(40, -1), axis=0)) > 16


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_small_angle_keeps_the_parents(rng: np.random.Generator, backend: str) -> None:
    model, search = teacher(rng), IteratedSearch(rounds=1, angle=1e-4, parents=2)
    planner = Planner.load(model, backend=backend, num_samples=6, search=search)
    plan = planner.plan(rng.normal(size=model.spec.state_size))
    parents = plan.actions[np.argsort(-plan.scores[:6])[:2]]
    spread = np.abs(plan.actions).max()
    np.testing.assert_allclose(plan.actions[6:], np.repeat(parents, 3, 0), atol=2e-3 * spread)


@pytest.mark.parametrize("custom", [False, True])
def test_records_replay_bit_for_bit(rng: np.random.Generator, custom: bool) -> None:
    def nearest(history: np.ndarray, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        return -np.square(actions).sum((1, 2))

    model = teacher(rng)
    planner = Planner.load(
        model, num_samples=5, num_elites=2, search=IteratedSearch(parents=2, angle=0.7)
    )
    planner.set_objective(nearest if custom else None)
    planner.act(rng.normal(size=model.spec.state_size))
    plan = planner.last_plan
    assert plan is not None
    record = json.loads(json.dumps(plan.record()))
    again = Planner.load(model, seed=9).replay(record, nearest if custom else None)
    same(plan, again)
    record["search"] = {"rounds": 1}
    with pytest.raises(ValueError, match="search must have the keys"):
        planner.replay(record, nearest if custom else None)


def test_a_deadline_leaves_rounds_out(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, search = teacher(rng), IteratedSearch(rounds=3, parents=2, children=4)
    planner = Planner.load(model, backend="cpu", num_samples=6, search=search)
    obs = rng.normal(size=model.spec.state_size)
    free, ample = planner.plan(obs), planner.plan(obs, deadline_s=60.0)
    same(free, ample)
    assert free.level == ample.level and free.record() == ample.record()
    assert free.level.complete and free.level.candidates == 18

    # A clock of its own: every reading is a second after the one before.
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    plan = planner.plan(obs, deadline_s=5.0)
    monkeypatch.undo()
    assert 6 < plan.level.candidates < 18 and plan.level.full == plan.level.candidates
    assert not plan.level.complete
    count = plan.level.candidates
    assert plan.scores.shape == (count,)
    np.testing.assert_array_equal(plan.actions, free.actions[:count])
    again = Planner.load(model, backend="cpu").replay(json.loads(json.dumps(plan.record())))
    same(plan, again)
    assert again.level == dataclasses.replace(plan.level, missed=False)
    with pytest.raises(ValueError, match="the record's rounds"):
        planner.replay({**plan.record(), "rounds": 4})


@pytest.mark.parametrize("warm", [False, True])
def test_no_time_leaves_the_first_round(rng: np.random.Generator, warm: bool) -> None:
    model = teacher(rng)
    planner = Planner.load(
        model, backend="cpu", num_samples=100, num_robots=2, search=IteratedSearch(),
        warm_start=WarmStart() if warm else None, fallback=False,
    )  # fmt: skip
    for _ in range(2):
        planner.act(rng.normal(size=(2, model.spec.state_size)), deadline_s=0.0)
        plan = planner.last_plan
        assert plan is not None
        assert plan.scores.shape == (2, 100)
        assert plan.level.candidates < 100 and plan.level.missed and not plan.level.complete
        same(plan, planner.replay(json.loads(json.dumps(plan.record()))))


def test_several_robots_plan_as_each_would_alone(rng: np.random.Generator) -> None:
    model, search = teacher(rng), IteratedSearch(rounds=2, parents=2)
    obs = rng.normal(size=(3, model.spec.state_size))
    together = Planner.load(model, num_samples=4, num_robots=3, search=search)
    plan = together.plan(obs)
    for robot in range(3):
        part = together.plan(obs[[robot]], robots=[robot])
        # Backends may sum in another order for another number of robots.
        np.testing.assert_allclose(part.scores[0], plan.scores[robot], rtol=1e-3, atol=1e-3)


def test_refusals(rng: np.random.Generator) -> None:
    model = teacher(rng)
    for wrong in (
        {"rounds": 0}, {"parents": 0}, {"angle": 0.0}, {"angle": 1.6}, {"parents": 4, "children": 3},
    ):  # fmt: skip
        with pytest.raises(ValueError, match="IteratedSearch"):
            IteratedSearch(**wrong)
    with pytest.raises(ValueError, match="the 3 candidates, got 4"):
        Planner.load(model, num_samples=3, search=IteratedSearch())
    provenance = {"distillation": {"proposal": {"pure_noise": 1.0}}}
    student = dataclasses.replace(
        model, spec=dataclasses.replace(model.spec, provenance=provenance)
    )
    with pytest.raises(ValueError, match="pure noise alone"):
        Planner.load(student, num_samples=8, search=IteratedSearch())
    with pytest.raises(ValueError, match="WarmStart.*pure noise alone"):
        Planner.load(student, num_samples=8, warm_start=WarmStart())
