"""The short way to an action is the general one, to the bit, and leaves what it cannot do to it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from random_models import random_model

from dmpc_fast.model_file import Model
from dmpc_fast.objectives import LearnedReward, StateBound
from dmpc_fast.planning.planner import Planner
from dmpc_fast.spec import PolicySpec

FIELDS = (
    "action", "best", "actions", "states", "scores", "violations", "chosen_actions", "chosen_states",
)  # fmt: skip
#: What a model without context may be given, so that the general way is taken.
GENERAL = np.zeros(0)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


def pair(model: Model, **options: Any) -> tuple[Planner, Planner]:
    """Two planners that are alike."""
    first, second = (
        Planner.load(model, **{"backend": "cpu", "num_samples": 9, "threads": 1, **options})
        for _ in range(2)
    )
    return first, second


def short(planner: Planner, obs: Any, **options: Any) -> np.ndarray:
    """The action, which must have come the short way."""
    refusal = AssertionError("the general way was taken")
    with mock.patch.object(planner, "_turn", side_effect=refusal):
        return planner.act(obs, **options)


def assert_alike(a: Planner, b: Planner) -> None:
    """Sources, plans, records, predictions and place in the random stream."""
    assert (a.last_source, a.plan_index) == (b.last_source, b.plan_index)
    assert a.last_planned.tolist() == b.last_planned.tolist()
    one, two = a.expectation(), b.expectation()
    assert one.steps == two.steps
    np.testing.assert_array_equal(one.states, two.states)
    assert a.last_plan is not None and b.last_plan is not None
    assert a.last_plan is a.last_plan
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(a.last_plan, name), getattr(b.last_plan, name))
    assert a.last_plan.level == b.last_plan.level
    assert a.last_plan.record() == b.last_plan.record()


@pytest.mark.parametrize("dtype", ["float32", "bf16", "int8"])
@pytest.mark.parametrize(("chunk", "elites"), [(1, 1), (3, 1), (1, 4), (2, 64)])
def test_actions_and_plans_are_the_same(
    rng: np.random.Generator, dtype: str, chunk: int, elites: int
) -> None:
    one, other = pair(random_model(rng), dtype=dtype, action_chunk=chunk, num_elites=elites, seed=7)
    assert one.last_plan is None
    for step, obs in enumerate(rng.normal(size=(7, 5))):
        action = short(one, obs if step % 2 else obs.astype(np.float32))
        assert (action.shape, action.dtype) == ((3,), np.float32)
        np.testing.assert_array_equal(action, other.act(obs.astype(np.float32), context=GENERAL))
        if step != 3:  # of some plans nobody asks for the record
            assert_alike(one, other)
    again = one.replay(json.loads(json.dumps(one.last_plan.record())))
    assert all(
        np.array_equal(getattr(again, name), getattr(one.last_plan, name)) for name in FIELDS
    )


def test_objectives_seeds_and_streams_are_taken_over(rng: np.random.Generator) -> None:
    one, other = pair(random_model(rng), seed=1)

    def both(change: Callable[[Planner], None]) -> None:
        for planner in (one, other):
            change(planner)
        obs = rng.normal(size=5)
        np.testing.assert_array_equal(short(one, obs), other.act(obs, context=GENERAL))
        assert_alike(one, other)

    both(lambda planner: None)
    both(lambda planner: planner.set_objective([LearnedReward(), StateBound(0, low=0.0)]))
    both(lambda planner: planner.reset(seed=5))
    both(lambda planner: planner.reset(stream_ids=[17]))
    both(lambda planner: planner.set_objective(None))


def test_it_gives_way_and_takes_over_in_the_midst_of_a_plan(rng: np.random.Generator) -> None:
    one, other = pair(random_model(rng), action_chunk=3)
    for step, obs in enumerate(rng.normal(size=(8, 5))):
        action = one.act(obs, context=GENERAL) if step % 3 == 1 else short(one, obs)
        np.testing.assert_array_equal(action, other.act(obs, context=GENERAL))
        assert_alike(one, other)


def test_new_dynamics_are_planned_with(rng: np.random.Generator) -> None:
    model = random_model(rng)
    changed = {
        name: tensor * np.float32(1.1) if name.startswith("dynamics.") else tensor
        for name, tensor in model.tensors.items()
    }
    new = dataclasses.replace(model, tensors=changed, sha256="f" * 64)
    one, other = pair(model)
    obs = rng.normal(size=5)
    short(one, obs)
    for planner in (one, other):
        planner.update_dynamics(new)
    assert one.last_plan.origin.model == model.sha256
    other.act(obs, context=GENERAL)
    other.reset()
    one.reset()
    np.testing.assert_array_equal(short(one, obs), other.act(obs, context=GENERAL))
    assert_alike(one, other)
    assert one.last_plan.origin.model == new.sha256


def test_deadlines(rng: np.random.Generator) -> None:
    one, other = pair(random_model(rng), num_samples=600, deadline_s=3600.0)
    obs = rng.normal(size=5)
    np.testing.assert_array_equal(short(one, obs), other.act(obs, context=GENERAL))
    assert_alike(one, other)
    short(one, obs, deadline_s=0.0)
    plan = one.last_plan
    assert plan.level.missed and not plan.level.complete
    assert np.isfinite(plan.action).all()
    again = other.replay(json.loads(json.dumps(plan.record())))
    np.testing.assert_array_equal(again.actions, plan.actions)
    with pytest.raises(ValueError, match="deadline_s"):
        one.act(obs, deadline_s=-1.0)


def test_the_policy_answers_where_a_plan_would_be_late(rng: np.random.Generator) -> None:
    one, other = pair(random_model(rng, policy=PolicySpec(2, 21)))
    for _ in range(3):  # until the engine knows its pace
        obs = rng.normal(size=5)
        np.testing.assert_array_equal(one.act(obs), other.act(obs, context=GENERAL))
    obs = rng.normal(size=5)
    action = short(one, obs, deadline_s=1e-9)
    assert one.last_source == "policy"
    np.testing.assert_array_equal(action, other.act(obs, context=GENERAL, deadline_s=1e-9))
    assert_alike(one, other)


def test_the_policy_alone(rng: np.random.Generator) -> None:
    one, other = pair(random_model(rng, policy=PolicySpec(2, 21)), mode="policy")
    for obs in rng.normal(size=(3, 5)):
        np.testing.assert_array_equal(short(one, obs), other.act(obs, context=GENERAL))
        assert one.last_source == other.last_source == "policy"
        assert one.last_plan is None and one.expectation().steps == -1


def test_a_policy_that_gives_nan_moves_nothing(rng: np.random.Generator) -> None:
    model = random_model(rng, policy=PolicySpec(2, 21))
    for name, tensor in model.tensors.items():
        if name.startswith("policy."):
            tensor[:] = np.nan
    planner, _ = pair(model, mode="policy")
    with pytest.raises(RuntimeError, match="not finite"):
        planner.act(rng.normal(size=5))


@pytest.mark.parametrize(
    "obs",
    [
        [0.1, 0.2, 0.3, 0.4, 0.5],
        np.arange(5),
        np.arange(10.0)[::2],
        np.arange(5.0, dtype=">f8"),
        np.arange(5.0, dtype=np.float16),
        np.broadcast_to(0.5, 5),
    ],
    ids=["list", "integers", "strided", "byte order", "half", "broadcast"],
)
def test_other_observations_go_the_general_way(obs: Any, rng: np.random.Generator) -> None:
    one, other = pair(random_model(rng))
    np.testing.assert_array_equal(one.act(obs), other.act(np.array(obs, np.float32)))
    assert_alike(one, other)


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (np.full(5, np.nan), "finite in float32, got nan"),
        (np.full(5, 1e300), r"finite in float32, got 1e\+300"),
        (np.array([0, 0, -np.inf, 0, 0], np.float32), "index \\[2\\]"),
        (np.zeros(4), r"shape \(5,\), got \(4,\)"),
        (np.zeros((1, 5)), r"shape \(5,\), got \(1, 5\)"),
        (np.zeros(5, np.complex64), "dtype complex64"),
        (None, "numbers of shape"),
    ],
)
def test_wrong_observations_change_nothing(
    obs: Any, message: str, rng: np.random.Generator
) -> None:
    one, other = pair(random_model(rng), action_chunk=2)
    right = rng.normal(size=(3, 5))
    for good in right:
        with pytest.raises(ValueError, match=message):
            one.act(obs)
        np.testing.assert_array_equal(short(one, good), other.act(good))
    assert_alike(one, other)


def test_no_candidate_is_the_same_error(rng: np.random.Generator) -> None:
    model = random_model(rng)
    broken = {
        name: np.full_like(tensor, np.nan) if name.startswith("objective.") else tensor
        for name, tensor in model.tensors.items()
    }
    planner, _ = pair(dataclasses.replace(model, tensors=broken))
    with pytest.raises(RuntimeError, match="no candidate"):
        planner.act(rng.normal(size=5))
    assert planner.plan_index == 0 and planner.last_plan is None


def test_what_it_returns_is_the_callers(rng: np.random.Generator) -> None:
    one, other = pair(random_model(rng), action_chunk=2)
    obs = rng.normal(size=5)
    short(one, obs)[:] = 9
    expected = other.act(obs)
    obs[:] = 0  # a buffer that the caller uses again
    assert_alike(one, other)
    np.testing.assert_array_equal(one.last_plan.action, expected)
    one.last_plan.chosen_actions[:] = 9
    np.testing.assert_array_equal(one.act(obs), other.act(obs))
