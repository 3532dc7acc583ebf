"""Behaviour: with known dynamics and random proposals the planner drives a point mass to its goal."""

from __future__ import annotations

import numpy as np
import pytest
from random_models import random_model

from dmpc_fast import objectives, philox
from dmpc_fast.backends.base import PlanRequest, PlanResult
from dmpc_fast.objectives import ActionCost, QuadraticTarget, StateBound
from dmpc_fast.planning.planner import Planner

PERIOD_S, DAMPING, LIMIT = 0.1, 0.98, 0.8
HORIZON, GOAL = 12, np.array([1.0, -0.7])


def step(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """The point mass: states (..., 4) are position and velocity, actions (..., 2) accelerations."""
    velocity = DAMPING * state[..., 2:] + PERIOD_S * action
    return np.concatenate([state[..., :2] + PERIOD_S * velocity, velocity], axis=-1)


class KnownDynamics:
    """A backend that knows the point mass; its proposals are a random push and jitter about it."""

    name = "known"

    def sample(self, request: PlanRequest) -> np.ndarray:
        normals = philox.batched_normals(
            seed=request.seed,
            candidates=np.arange(request.num_samples),
            plan_index=request.plan_index,
            robots=request.robots,
            stage=0,
            step=0,
            steps=HORIZON + 1,
            size=2,
        )
        actions = 0.8 * normals[:, :, :1] + 0.3 * normals[:, :, 1:]
        return actions.clip(-LIMIT, LIMIT).astype(np.float32)

    def predict(self, request: PlanRequest, actions: np.ndarray) -> np.ndarray:
        state = np.repeat(request.states[:, -1:], actions.shape[1], axis=1)
        states = []
        for k in range(HORIZON):
            state = step(state, actions[:, :, k])
            states.append(state)
        return np.stack(states, axis=2).astype(np.float32)

    def score(
        self, request: PlanRequest, states: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        powers = objectives.discount_powers(1.0, HORIZON)
        terms = request.objective
        return tuple(objectives.evaluate(terms, states, actions, discounts=powers, penalty=0.0))

    def plan(self, request: PlanRequest) -> PlanResult:
        actions = self.sample(request)
        states = self.predict(request, actions)
        ranked = self.score(request, states, actions)
        return PlanResult(objectives.best_candidate(*ranked), actions, states, *ranked[:2])


def reach(history: np.ndarray, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    offsets = states[..., :2] - GOAL
    return -(offsets**2).sum((-1, -2)) - 0.3 * (states[..., 2:] ** 2).sum((-1, -2))


TERMS = [QuadraticTarget(i, GOAL[i]) for i in range(2)]
TERMS += [QuadraticTarget(i, 0.0, weight=0.3) for i in (2, 3)]


def drive(planner: Planner, steps: int, robots: int) -> np.ndarray:
    """States (steps + 1, robots, 4) from rest at the origin."""
    states = [np.zeros((robots, 4))]
    for _ in range(steps):
        actions = planner.act(states[-1])
        assert np.abs(actions).max() <= np.float32(LIMIT)
        states.append(step(states[-1], actions.astype(np.float64)))
    return np.stack(states)


def make(**options: object) -> Planner:
    model = random_model(np.random.default_rng(), state=4, action=2, horizon=HORIZON, discount=1.0)
    seed = int(np.random.default_rng().integers(2**32))
    return Planner(model, KnownDynamics(), dtype="float32", seed=seed, **options)


@pytest.mark.parametrize("chunk", [1, 3])
@pytest.mark.parametrize("objective", [reach, TERMS], ids=["callable", "terms"])
def test_the_goal_is_reached_and_held(objective: object, chunk: int) -> None:
    planner = make(num_samples=128, num_robots=3, action_chunk=chunk)
    planner.set_objective(objective)
    states = drive(planner, 80, robots=3)
    distance = np.linalg.norm(states[..., :2] - GOAL, axis=-1)
    assert distance[0].min() > 1.2
    assert distance[-20:].max() < 0.2


def test_a_constraint_bounds_the_speed_on_the_way() -> None:
    # So many that some keep to the limit: with a quarter of them it is luck.
    planner, free = (make(num_samples=512, num_robots=2) for _ in range(2))
    terms = [*TERMS[:2], ActionCost(0.01)]
    bounds = [StateBound(i, low=-0.2, high=0.2) for i in (2, 3)]
    free.set_objective(terms)
    planner.set_objective([*terms, *bounds])
    fast = drive(free, 90, 2)
    assert np.abs(fast[..., 2:]).max() > 0.4
    states, kept = np.zeros((2, 4)), 0
    for _ in range(90):
        states = step(states, planner.act(states).astype(np.float64))
        plan = planner.last_plan
        assert plan is not None
        # The least violating of all candidates, which is one that keeps the limit where any does.
        chosen = plan.violations[np.arange(2), plan.best]
        np.testing.assert_array_equal(chosen, plan.violations.min(axis=1))
        speed = np.abs(states[:, 2:]).max(axis=1)
        assert (speed[chosen == 0] <= 0.2 + 1e-6).all()
        kept += int((chosen == 0).sum())
    assert kept > 90
    assert np.linalg.norm(states[:, :2] - GOAL, axis=-1).max() < 0.3
