"""The planner's state: what advances it, what leaves it alone, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_models import random_model

from dmpc_fast import objectives
from dmpc_fast.model_file import Model, load_model, save_model
from dmpc_fast.planning.planner import Planner
from dmpc_fast.planning.warm_start import WarmStart
from dmpc_fast.spec import EnvironmentSpec, SamplerSpec

FIELDS = (
    "action", "best", "actions", "states", "scores", "violations", "chosen_actions", "chosen_states",
)  # fmt: skip


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


def make(model: Model, **options: Any) -> Planner:
    return Planner.load(model, **{"backend": "torch", "num_samples": 5, **options})


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def test_plan_has_the_stated_fields(rng: np.random.Generator) -> None:
    planner = make(random_model(rng, history=2), seed=3)
    plan = planner.plan(rng.normal(size=5))
    assert plan.action.shape == (3,)
    assert isinstance(plan.best, int)
    assert plan.actions.shape == (5, 6, 3)
    assert plan.states.shape == (5, 6, 5)
    assert plan.scores.shape == plan.violations.shape == (5,)
    assert {getattr(plan, name).dtype for name in FIELDS if name != "best"} == {
        np.dtype(np.float32)
    }
    assert np.array_equal(plan.action, plan.actions[plan.best, 0])
    assert plan.best == np.argmax(plan.scores)
    assert planner.backend == "torch"
    assert planner.num_samples == 5


def test_a_file_plans_like_the_model_in_memory(rng: np.random.Generator, tmp_path: Path) -> None:
    model, path, obs = random_model(rng), tmp_path / "model.safetensors", rng.normal(size=5)
    save_model(path, model.spec, model.tensors)
    planner = Planner.load(str(path), backend="torch", num_samples=5)
    assert same(planner.plan(obs), make(model).plan(obs))
    assert planner.plan(obs).record()["model"] == load_model(path).sha256


def test_actions_stay_within_bounds(rng: np.random.Generator) -> None:
    model = random_model(rng)
    actions = make(model, num_samples=40).plan(rng.normal(size=5)).actions
    low, high = model.spec.environment.action_low, model.spec.environment.action_high
    for i, (a, b) in enumerate(zip(low, high, strict=True)):
        assert a is None or actions[..., i].min() >= np.float32(a)
        assert b is None or actions[..., i].max() <= np.float32(b)
    assert np.any(np.abs(actions[..., :2]) == np.float32(0.8))  # some candidates are clipped


def test_plan_is_pure_and_act_goes_on(rng: np.random.Generator) -> None:
    planner = make(random_model(rng, history=3))
    observations = rng.normal(size=(4, 5))
    for i, obs in enumerate(observations):
        assert planner.plan_index == i
        plan = planner.plan(obs)
        assert same(plan, planner.plan(obs))
        assert np.array_equal(planner.act(obs), plan.action)
        assert same(planner.last_plan, plan)


def test_same_seed_same_episode(rng: np.random.Generator) -> None:
    model, observations = random_model(rng, history=2), rng.normal(size=(3, 5))

    def episode(planner: Planner) -> np.ndarray:
        return np.stack([planner.act(obs) for obs in observations])

    planner = make(model, seed=11)
    first = episode(planner)
    planner.reset()
    assert np.array_equal(first, episode(planner))
    assert np.array_equal(first, episode(make(model, seed=11)))
    planner.reset(seed=12)
    assert not np.array_equal(first, episode(planner))
    assert np.array_equal(
        episode(make(model, seed=12))[0], make(model, seed=12).act(observations[0])
    )


def test_history_reaches_the_model(rng: np.random.Generator) -> None:
    planner, obs = make(random_model(rng, history=3)), rng.normal(size=5)
    acted = planner.act(obs)
    request = planner.plan(obs).origin.requests[0][1]
    assert request.mask.tolist() == [[0, 1]]
    assert np.array_equal(request.states[0], np.stack([0 * obs, obs, obs]).astype(np.float32))
    assert np.array_equal(request.actions[0], np.stack([0 * acted, acted]))

    ran = np.array([0.1, 0.2, 0.3])
    planner.act(obs, previous_action=ran)
    assert np.array_equal(planner.last_plan.origin.requests[0][1].actions[0, -1], ran.astype("f4"))
    request = planner.plan(obs).origin.requests[0][1]
    assert request.mask.tolist() == [[1, 1]]
    assert np.array_equal(request.actions[0, 0], ran.astype(np.float32))


def test_before_an_episode_nothing_ran(rng: np.random.Generator) -> None:
    planner, obs = make(random_model(rng, history=2)), rng.normal(size=5)
    planner.act(obs, previous_action=np.ones(3))
    assert not planner.last_plan.origin.requests[0][1].actions.any()


def test_chunk_runs_a_plan_before_the_next(rng: np.random.Generator) -> None:
    planner, obs = make(random_model(rng), action_chunk=3), rng.normal(size=5)
    plan = planner.plan(obs)
    for step in range(3):
        assert np.array_equal(
            planner.act(rng.normal(size=5) if step else obs), plan.actions[plan.best, step]
        )
        assert planner.plan_index == 1
    planner.act(obs)
    assert planner.plan_index == 2


def test_recommended_options_are_the_default(rng: np.random.Generator) -> None:
    model = random_model(rng, recommended={"num_samples": 9, "action_chunk": 2, "num_elites": 3})
    planner = Planner.load(model, backend="torch")
    assert (planner.num_samples, planner.action_chunk, planner.num_elites) == (9, 2, 3)
    assert Planner.load(random_model(rng), backend="torch").num_samples == 64


def test_robots_together_are_robots_alone(rng: np.random.Generator) -> None:
    model, observations = random_model(rng, history=2, members=2), rng.normal(size=(4, 3, 5))
    together = make(model, num_robots=3, num_samples=17)
    alone = [make(model, num_samples=17, num_robots=1) for _ in range(3)]
    for i, planner in enumerate(alone):
        planner.reset(stream_ids=[i])
    for step, obs in enumerate(observations):
        plan = together.plan(obs)
        assert plan.action.shape == (3, 3)
        assert plan.states.shape == (3, 17, 6, 5)
        if step == 2:
            together.reset(robots=[1])
            alone[1].reset(stream_ids=[1])
        acted = together.act(obs)
        for i, planner in enumerate(alone):
            assert np.array_equal(acted[i], planner.act(obs[i : i + 1])[0])
    assert together.plan_index.tolist() == [4, 2, 4]


def test_some_robots_act_while_others_wait(rng: np.random.Generator) -> None:
    model, observations = random_model(rng, history=2), rng.normal(size=(3, 3, 5))
    planner, twin = (make(model, num_robots=3, num_samples=16, action_chunk=2) for _ in range(2))
    for obs in observations:
        expected = twin.act(obs)
        assert np.array_equal(planner.act(obs[[2, 0]], robots=[2, 0]), expected[[2, 0]])
    assert planner.plan_index.tolist() == [2, 0, 2]
    assert planner.last_planned.tolist() == [2, 0]
    assert planner.plan(observations[0][[1]], robots=[1]).scores.shape == (1, 16)
    planner.reset(robots=[2])
    planner.act(observations[0])
    assert planner.last_planned.tolist() == [1, 2]  # robot 0 has an action left
    for robots in ([], [0, 0], [3], [0.0]):
        with pytest.raises(ValueError, match="robots"):
            planner.act(np.zeros((len(robots), 5)), robots=robots)


def test_stream_ids_choose_the_random_numbers(rng: np.random.Generator) -> None:
    planner = make(random_model(rng), num_robots=2, num_samples=16)
    obs = np.tile(rng.normal(size=5), (2, 1))
    planner.reset(stream_ids=[8, 8])
    plan = planner.plan(obs)
    assert np.array_equal(plan.actions[0], plan.actions[1])
    planner.reset(robots=[1], stream_ids=[9])
    assert not np.array_equal(*planner.plan(obs).actions)
    for arguments in (
        {"stream_ids": [1]},
        {"stream_ids": [0, 1 << 16]},
        {"robots": [2]},
        {"robots": [0], "seed": 5},
        {"seed": -1},
    ):
        with pytest.raises(ValueError, match=r"stream_ids|robots|seed"):
            planner.reset(**arguments)
    assert np.array_equal(planner.plan(obs).actions[0], plan.actions[0])


@pytest.mark.parametrize("chunk", [1, 2])
def test_warm_start_keeps_the_previous_plan(rng: np.random.Generator, chunk: int) -> None:
    model = random_model(rng, dynamics=SamplerSpec.uniform(1))
    planner = make(
        model, num_robots=2, num_samples=8, action_chunk=chunk, warm_start=WarmStart(1e-3, 0.25)
    )
    obs = rng.normal(size=(2, 5))
    for _ in range(chunk):
        planner.act(obs)
    kept = planner.last_plan.actions[[0, 1], planner.last_plan.best]
    plan = planner.plan(obs)
    shifted = np.concatenate([kept[:, chunk:], np.repeat(kept[:, -1:], chunk, axis=1)], axis=1)
    assert np.abs(plan.actions[:, 2:] - shifted[:, None]).max() < 0.05
    assert np.abs(plan.actions[:, :2] - shifted[:, None]).max() > 0.05

    planner.reset(robots=[0])
    mixed = planner.plan(obs)
    np.testing.assert_allclose(mixed.actions[1], plan.actions[1], atol=1e-4)
    assert np.abs(mixed.actions[0] - shifted[0]).max() > 0.05
    assert same(mixed, planner.replay(json.loads(json.dumps(mixed.record()))))


def test_replay_makes_the_recorded_plan(rng: np.random.Generator) -> None:
    model = random_model(rng, history=3, context=2)
    planner = make(model, seed=2**63 + 1, proposal_sampler=SamplerSpec.uniform(2, "consistency"))
    planner.set_objective([objectives.LearnedReward(), objectives.Speed(0, 1.0)])
    for _ in range(3):
        planner.act(rng.normal(size=5), context=rng.normal(size=2))
    record = json.loads(json.dumps(planner.last_plan.record()))
    other = make(model)
    assert same(other.replay(record), planner.last_plan)
    assert other.plan_index == 0
    with pytest.raises(ValueError, match="record is of model"):
        make(random_model(rng, history=3, context=2)).replay(record)
    with pytest.raises(ValueError, match="record"):
        planner.replay({**record, "version": 0})
    with pytest.raises(ValueError, match="not one of such a model"):
        planner.replay({**record, "requests": [{"rows": [0], "states": [[0]]}]})
    for rows in ([1], [0, 1], []):
        with pytest.raises(ValueError, match="not one of such a model.*rows"):
            planner.replay({**record, "requests": [{**record["requests"][0], "rows": rows}]})
    with pytest.raises(ValueError, match="takes no objective"):
        planner.replay(record, objective=lambda h, s, a: a[:, 0, 0])


def test_callable_sees_environment_units_and_ranks(rng: np.random.Generator) -> None:
    planner, obs = make(random_model(rng, history=2), num_robots=2), rng.normal(size=(2, 5))
    planner.act(obs)
    seen = []

    def objective(history: np.ndarray, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        seen.append((history.copy(), states.copy()))
        scores = -np.abs(states[:, -1, 1])
        states[:] = np.nan  # what a callable does with its arguments is its own affair
        return scores

    planner.set_objective(objective)
    plan = planner.plan(obs)
    for i in range(2):
        history, states = seen[i]
        assert history.shape == (2, 8)
        assert np.array_equal(history[-1, :5], obs[i].astype(np.float32))
        assert not history[-1, 5:].any()
        assert np.array_equal(history[0, 5:], planner.last_plan.action[i])
        assert np.array_equal(states, plan.states[i])
        assert plan.best[i] == np.argmin(np.abs(states[:, -1, 1]))
    record = json.loads(json.dumps(plan.record()))
    assert same(planner.replay(record, objective=objective), plan)
    with pytest.raises(ValueError, match="needs that very callable"):
        planner.replay(record)
    planner.set_objective(None)
    assert not np.array_equal(planner.plan(obs).scores, plan.scores)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (np.zeros(4), r"must return 5 numbers of shape \(5,\)"),
        (np.zeros((5, 1)), "must return 5 numbers"),
        (None, "must return 5 numbers"),
        (np.array([0, 1, np.nan, 2, 3]), "gave NaN for candidate 2"),
    ],
)
def test_wrong_callable_is_named(rng: np.random.Generator, returned: Any, message: str) -> None:
    planner, obs = make(random_model(rng)), rng.normal(size=5)

    def my_reward(history: np.ndarray, states: np.ndarray, actions: np.ndarray) -> Any:
        return returned

    planner.set_objective(my_reward)
    with pytest.raises(ValueError, match=f"my_reward.*{message}"):
        planner.act(obs)
    assert planner.plan_index == 0


def test_constraints_rank_before_scores(rng: np.random.Generator) -> None:
    planner, obs = make(random_model(rng), num_samples=12), rng.normal(size=5)
    values = planner.plan(obs).states[..., 2]
    bound = float(np.median(values.max(axis=1)))
    planner.set_objective([objectives.LearnedReward(), objectives.StateBound(2, high=bound)])
    plan = planner.plan(obs)
    allowed = plan.violations == 0
    assert 0 < allowed.sum() < 12
    assert allowed[plan.best]
    assert plan.scores[plan.best] == plan.scores[allowed].max()


@pytest.mark.parametrize("kind", [list, tuple, np.float64, np.float16])
def test_any_float_array_is_taken(rng: np.random.Generator, kind: Any) -> None:
    planner = make(random_model(rng))
    values = rng.normal(size=5).astype(np.float16)
    given = kind(values) if kind in (list, tuple) else values.astype(kind)
    assert np.array_equal(planner.act(given), make_action(planner, values))


def make_action(planner: Planner, values: np.ndarray) -> np.ndarray:
    planner.reset()
    return planner.act(values.astype(np.float32))


WRONG = [
    (np.zeros(4), r"observation must have shape \(5,\), got \(4,\)"),
    (np.zeros((1, 5)), r"observation must have shape \(5,\), got \(1, 5\)"),
    (
        np.array([0, 0, np.nan, 0, 0]),
        r"observation must be finite in float32, got nan at index \[2\]",
    ),
    (np.array([0, 0, 0, -np.inf, 0]), r"got -inf at index \[3\]"),
    (np.array([0, 1e39, 0, 0, 0]), r"got 1e\+39 at index \[1\]"),
    (np.array(["a"] * 5), "observation must be numbers"),
    ([[1], [1, 2]], "observation must be numbers"),
    (None, "observation must be numbers"),
    ({"x": np.zeros(5)}, "got a dictionary with keys"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_wrong_observation_never_moves_the_robot(
    rng: np.random.Generator, wrong: Any, message: str
) -> None:
    planner, twin = (make(random_model(np.random.default_rng(1), history=2)) for _ in range(2))
    first, second = rng.normal(size=(2, 5))
    planner.act(first)
    twin.act(first)
    for call in (planner.act, planner.plan):
        with pytest.raises(ValueError, match=message):
            call(wrong)
    with pytest.raises(ValueError, match="previous_action"):
        planner.act(second, previous_action=[0.0, np.nan, 0.0])
    with pytest.raises(ValueError, match="context"):
        planner.act(second, context=[1.0])
    assert np.array_equal(planner.act(second), twin.act(second))


def test_context_is_asked_for(rng: np.random.Generator) -> None:
    planner, obs = make(random_model(rng, context=2), num_robots=2), rng.normal(size=(2, 5))
    with pytest.raises(ValueError, match="needs a context of size 2"):
        planner.act(obs)
    one = planner.plan(obs, context=np.zeros((2, 2)))
    assert not np.array_equal(one.states, planner.plan(obs, context=np.ones((2, 2))).states)


def test_dictionary_observations_are_joined_by_the_models_keys(rng: np.random.Generator) -> None:
    model = random_model(rng)
    plain = model.spec.environment
    environment = EnvironmentSpec(None, ("a.x", "b"), plain.action_low, plain.action_high, 0.02)
    object.__setattr__(model.spec, "environment", environment)
    obs = rng.normal(size=(2, 5)).astype(np.float32)
    single, several = make(model), make(model, num_robots=2)
    given = {"b": obs[0, 2:], "a": {"x": obs[0, :2].reshape(2, 1)}, "unused": 3}
    assert same(single.plan(given), single.plan(obs[0]))
    assert same(several.plan({"b": obs[:, 2:], "a": {"x": obs[:, :2]}}), several.plan(obs))
    for wrong in ({"b": obs[0]}, {"a": 3.0, "b": obs[0]}):
        with pytest.raises(ValueError, match=r"lacks the key 'a\.x'"):
            single.plan(wrong)


def test_control_period_must_be_the_models(rng: np.random.Generator) -> None:
    model = random_model(rng, control_period_s=0.02)
    make(model, control_period_s=1 / 50)
    with pytest.raises(ValueError, match=r"0\.01 but the model was trained for 0\.02 s"):
        make(model, control_period_s=0.01)
    make(model, control_period_s=0.01, allow_period_mismatch=True)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("num_samples", 0),
        ("num_samples", 2.0),
        ("num_robots", 0),
        ("action_chunk", 7),
        ("num_elites", 0),
        ("num_elites", 257),
        ("seed", -1),
        ("seed", 1 << 64),
    ],
)
def test_options_out_of_range_are_named(rng: np.random.Generator, option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{option} must be an integer from .* got {value}"):
        make(random_model(rng), **{option: value})


@pytest.mark.parametrize("arguments", [(0.0, 0.5), (1.6, 0.5), (0.8, 1.0), (0.8, -0.1)])
def test_warm_start_is_checked(arguments: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="WarmStart"):
        WarmStart(*arguments)


def test_a_model_that_gives_nan_moves_nothing(rng: np.random.Generator) -> None:
    model = random_model(rng)
    model.tensors["dynamics.0.final.out.bias"][:] = np.nan
    planner = make(model)
    with pytest.raises(RuntimeError, match="no candidate"):
        planner.act(rng.normal(size=5))
    assert planner.plan_index == 0
