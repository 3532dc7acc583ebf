"""The mean of the best candidates: who is in it, what is run, and that it replays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from random_models import random_model

from dmpc_fast import objectives
from dmpc_fast.backends.base import PlanResult
from dmpc_fast.planning.elites import elite_mean, elites_of
from dmpc_fast.planning.planner import Planner


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


def random_result(rng: np.random.Generator) -> PlanResult:
    """Candidates with many equal scores and violations, some of which are not numbers."""
    robots, count = rng.integers(1, 4), rng.integers(2, 30)
    scores = rng.integers(0, 5, (robots, count)).astype(np.float32)
    violations = rng.integers(0, 2, (robots, count)).astype(np.float32)
    actions = rng.normal(size=(robots, count, 3, 2)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.1] = np.nan
    actions[rng.random(scores.shape) < 0.1, 1, 0] = np.nan
    scores[:, 0], actions[:, 0], violations[:, 0] = 0, 0, 0  # one at least can be run
    best = objectives.best_candidate(
        np.where(np.isfinite(actions).all((-2, -1)), scores, np.nan), violations, 0 * scores
    )
    return PlanResult(best, actions, actions, scores, violations)


@pytest.mark.parametrize("num_elites", [1, 2, 5, 64])
def test_elites_are_the_best_of_those_that_violate_least(
    rng: np.random.Generator, num_elites: int
) -> None:
    for _ in range(50):
        result = random_result(rng)
        for robot, chosen in enumerate(elites_of(result, num_elites)):
            best, scores = result.best[robot], result.scores[robot]
            usable = ~np.isnan(scores) & np.isfinite(result.actions[robot]).all((-2, -1))
            usable &= result.violations[robot] <= result.violations[robot, best]
            assert chosen[0] == best
            assert len(set(chosen.tolist())) == len(chosen) == min(num_elites, usable.sum())
            assert usable[chosen].all()
            rest = np.setdiff1d(np.flatnonzero(usable), chosen)
            assert not len(rest) or len(chosen) == 1 or scores[rest].max() <= scores[chosen].min()


def test_mean_is_of_the_elites_alone(rng: np.random.Generator) -> None:
    trajectories = rng.normal(size=(2, 6, 4, 3)).astype(np.float32)
    trajectories[:, 5] = np.nan
    mean = elite_mean(trajectories, [np.array([3, 0, 1]), np.array([4])])
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean[0], trajectories[0, [0, 1, 3]].mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(mean[1], trajectories[1, 4])


def test_act_runs_the_mean(rng: np.random.Generator) -> None:
    model, obs = random_model(rng), rng.normal(size=(2, 5))
    planner = Planner.load(
        model, backend="torch", num_samples=12, num_elites=4, num_robots=2, action_chunk=2
    )
    plan = planner.plan(obs)
    for robot in range(2):
        four = np.argsort(-plan.scores[robot])[:4]
        mean = plan.actions[robot, four].mean(0)
        np.testing.assert_allclose(plan.chosen_actions[robot], mean, rtol=1e-5, atol=1e-6)
        states = plan.states[robot, four].mean(0)
        np.testing.assert_allclose(plan.chosen_states[robot], states, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(plan.action, plan.chosen_actions[:, 0])
    np.testing.assert_array_equal(planner.act(obs), plan.chosen_actions[:, 0])
    np.testing.assert_array_equal(planner.act(obs), plan.chosen_actions[:, 1])
    np.testing.assert_array_equal(planner.expectation().states, plan.chosen_states[:, 1])


def test_more_elites_than_candidates_are_all_of_them(rng: np.random.Generator) -> None:
    plan = Planner.load(random_model(rng), backend="torch", num_samples=3, num_elites=8).plan(
        rng.normal(size=5)
    )
    np.testing.assert_allclose(plan.chosen_actions, plan.actions.mean(0), rtol=1e-5, atol=1e-6)


def test_a_single_candidate_is_run_as_it_is(rng: np.random.Generator) -> None:
    plan = Planner.load(random_model(rng), backend="torch", num_samples=1, num_elites=8).plan(
        rng.normal(size=5)
    )
    np.testing.assert_array_equal(plan.chosen_actions, plan.actions[0])


def test_a_constraint_is_not_averaged_away(rng: np.random.Generator) -> None:
    """Candidates that violate more than the best one are no elites, whatever their score."""
    planner = Planner.load(random_model(rng), backend="torch", num_samples=20, num_elites=20)
    obs = rng.normal(size=5)
    middle = float(np.median(planner.plan(obs).states[:, :, 1].max(1)))
    planner.set_objective([objectives.StateBound(1, high=middle), objectives.LearnedReward()])
    plan = planner.plan(obs)
    kept = plan.violations <= plan.violations[plan.best]
    assert 0 < kept.sum() < 20
    np.testing.assert_allclose(
        plan.chosen_actions, plan.actions[kept].mean(0), rtol=1e-5, atol=1e-6
    )


def test_replay_runs_the_same_mean(rng: np.random.Generator, tmp_path: Path) -> None:
    model, obs = random_model(rng), rng.normal(size=5)
    plan = Planner.load(model, backend="torch", num_samples=9, num_elites=3).plan(obs)
    record = json.loads(json.dumps(plan.record()))
    again = Planner.load(model, backend="torch", num_samples=9).replay(record)
    np.testing.assert_array_equal(again.action, plan.action)
    np.testing.assert_array_equal(again.chosen_states, plan.chosen_states)
    del record["num_elites"]
    with pytest.raises(ValueError, match="num_elites"):
        Planner.load(model, backend="torch").replay(record)
