"""Evaluating and recording with a small random model."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from point_robot import ID, PERIOD_S
from random_models import random_spec, random_tensors

from dmpc_fast.data.minari import load_episodes
from dmpc_fast.evaluation.collect import RANDOM, collect
from dmpc_fast.evaluation.evaluate import evaluate
from dmpc_fast.evaluation.trace import trace_episode
from dmpc_fast.model_file import save_model
from dmpc_fast.objectives import ActionCost, GaussianTarget
from dmpc_fast.planning.planner import Planner
from dmpc_fast.planning.warm_start import WarmStart

QUICK: dict[str, Any] = {"backend": "torch", "num_samples": 3, "max_steps": 6, "progress": False}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model.safetensors")


def make_model(path: Path, **sizes: Any) -> Path:
    rng = np.random.default_rng(8)
    options = {"state": 4, "action": 2, "control_period_s": PERIOD_S, "history": 2, **sizes}
    spec = random_spec(**options)
    save_model(path, spec, random_tensors(rng, spec))
    return path


def share_test_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    here = os.path.dirname(__file__)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))


def test_an_episode_is_the_planners_own(model: Path) -> None:
    result = evaluate(model, ID, episodes=3, seed=40, batch=2, **QUICK)
    planner = Planner.load(model, backend="torch", num_samples=3, seed=40, num_robots=1)
    import gymnasium

    environment = gymnasium.make(ID)
    for number in range(3):
        planner.reset(robots=[0], stream_ids=[number])
        observation, _ = environment.reset(seed=40 + number)
        total, steps, terminated = 0.0, 0, False
        while steps < 6 and not terminated:
            action = planner.act(np.float32(observation)[None])[0]
            observation, reward, terminated, _, _ = environment.step(action)
            total, steps = total + float(reward), steps + 1
        assert result.returns[number] == pytest.approx(total, rel=1e-4)
        assert (result.lengths[number], result.terminated[number]) == (steps, terminated)
    assert result.seeds.tolist() == [40, 41, 42]


def test_the_engine_scores_as_the_reference_does(model: Path) -> None:
    options = {"episodes": 2, "seed": 11, "num_samples": 5, "max_steps": 8, "progress": False}
    expected = evaluate(model, ID, backend="torch", **options)
    result = evaluate(model, ID, backend="cpu", **options)
    np.testing.assert_allclose(result.returns, expected.returns, rtol=1e-4)
    np.testing.assert_array_equal(result.lengths, expected.lengths)
    np.testing.assert_array_equal(result.terminated, expected.terminated)


def test_batches_and_workers_do_not_change_results(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_test_modules(monkeypatch)
    results = [
        evaluate(model, ID, episodes=5, seed=1, **QUICK, **split)
        for split in ({"batch": 1}, {"batch": 3}, {"batch": 2, "workers": 2})
    ]
    for other in results[1:]:
        np.testing.assert_allclose(other.returns, results[0].returns, rtol=1e-4)
        np.testing.assert_array_equal(other.lengths, results[0].lengths)
        np.testing.assert_array_equal(other.seeds, results[0].seeds)


def test_a_result_is_json_with_all_that_was_asked(model: Path) -> None:
    terms = [GaussianTarget(index=0, target=0.5, variance=0.1), ActionCost(0.1)]
    result = evaluate(
        model,
        ID,
        episodes=2,
        action_chunk=2,
        objective=terms,
        planner_options={"warm_start": WarmStart()},
        **QUICK,
    )
    report = json.loads(result.to_json())
    assert report["episodes"]["return"] == result.returns.tolist()
    assert report["episodes"]["score"] is None and "score" not in report["summary"]
    assert report["episodes"]["seed"] == [10_000, 10_001]
    summary, settings = report["summary"], report["settings"]
    assert summary["return"]["mean"] == pytest.approx(result.returns.mean())
    error = result.returns.std(ddof=1) / math.sqrt(2)
    assert summary["return"]["standard_error"] == pytest.approx(error)
    assert summary["return"]["quantiles"]["1"] == result.returns.max()
    # Three plans of six steps at most, the first of them left out.
    assert 1 <= summary["plan_latency"]["plans"] <= 2
    assert summary["plan_latency"]["p99_ms"] >= summary["plan_latency"]["median_ms"] > 0
    throughput = summary["throughput"]
    assert throughput["episodes_per_minute"] == pytest.approx(2 * 60 / result.seconds)
    assert throughput["steps_per_second"] == pytest.approx(result.lengths.sum() / result.seconds)
    assert 0 < throughput["planning_share"] < 1
    assert [term["term"] for term in settings["objective"]] == ["GaussianTarget", "ActionCost"]
    assert settings["num_samples"] == 3 and settings["action_chunk"] == 2
    assert "WarmStart" in settings["planner_options"]["warm_start"]
    assert len(settings["model_sha256"]) == 64
    assert {"gymnasium", "mujoco", "numpy"} <= report["versions"].keys()


def test_scores_are_normalised_for_known_robots(tmp_path: Path) -> None:
    path = make_model(tmp_path / "hopper.safetensors", state=11, action=3, control_period_s=0.008)
    change = "actuator[foot_joint].ctrlrange=-0.01,0.01"
    healthy, changed = (
        evaluate(path, "Hopper-v5", episodes=2, seed=0, modify=modify, **QUICK)
        for modify in ((), (change,))
    )
    assert healthy.scores is not None
    expected = 100 * (healthy.returns + 20.272305) / (3234.3 + 20.272305)
    np.testing.assert_allclose(healthy.scores, expected)
    assert not np.array_equal(healthy.returns, changed.returns)
    assert changed.settings["modify"] == [change]


def test_what_does_not_fit_is_refused_before_it_runs(tmp_path: Path, model: Path) -> None:
    with pytest.raises(ValueError, match="size 11 and actions of size 3, but .* made for 4 and 2"):
        evaluate(model, "Hopper-v5", **QUICK)
    slow = make_model(tmp_path / "slow.safetensors", control_period_s=0.5)
    with pytest.raises(ValueError, match="control period of 0.02 s, but .* 0.5 s"):
        evaluate(slow, ID, **QUICK)
    assert len(evaluate(slow, ID, episodes=1, allow_period_mismatch=True, **QUICK).returns) == 1
    for options, message in (
        ({"episodes": 0}, "episodes must be at least 1"),
        ({"workers": 0}, "workers and batch must be at least 1"),
        ({"batch": 0}, "workers and batch must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate(model, ID, **{**QUICK, **options})


@pytest.mark.parametrize("kind", ["model", RANDOM])
def test_what_is_collected_loads_and_does_not_depend_on_batches(
    model: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    share_test_modules(monkeypatch)
    driver = model if kind == "model" else RANDOM
    stores = []
    last = {"batch": 2} if kind == "model" else {"workers": 2}
    for name, split in (("a", {"batch": 1}), ("b", {"batch": 3}), ("c", last)):
        dataset_id = f"my/point/{name}-v0"
        result = collect(ID, dataset_id, model=driver, steps=20, seed=7, **QUICK, **split)
        stores.append(load_episodes(dataset_id, progress=False))
        assert result.steps == stores[-1].num_steps >= 20
        np.testing.assert_allclose(stores[-1].episode_returns(), result.returns, rtol=1e-5)
        assert stores[-1].environment.control_period_s == PERIOD_S
        assert stores[-1].environment.id == "TestPoint-v0"
    # Whole episodes, and not one more than needed.
    assert stores[0].offsets[-2] < 20
    for other in stores[1:]:
        np.testing.assert_array_equal(other.offsets, stores[0].offsets)
        np.testing.assert_allclose(other.actions, stores[0].actions, atol=1e-4)
        np.testing.assert_allclose(other.observations, stores[0].observations, atol=1e-4)
    assert np.abs(stores[0].actions).max() <= 1


def test_collecting_keeps_references_and_what_was_changed() -> None:
    import minari

    change = "body[foot].mass*=2"
    collect("Hopper-v5", "my/hopper/heavy-v0", model=RANDOM, steps=5, modify=[change], **QUICK)
    store = load_episodes("my/hopper/heavy-v0", progress=False)
    assert store.score_range == (-20.272305, 3234.3)
    assert store.environment.action_low == (-1.0, -1.0, -1.0)
    metadata = minari.load_dataset("my/hopper/heavy-v0").storage.metadata
    assert metadata["robot_changes"] == [change] and change in metadata["description"]
    with pytest.raises(FileExistsError, match="'my/hopper/heavy-v0' exists already"):
        collect("Hopper-v5", "my/hopper/heavy-v0", model=RANDOM, steps=5, **QUICK)


def test_a_failed_collection_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="steps must be at least 1"):
        collect(ID, "my/point/none-v0", model=RANDOM, steps=0, **QUICK)
    with pytest.raises(ValueError, match="unknown kind"):
        collect("Hopper-v5", "my/none-v0", model=RANDOM, steps=5, modify=["a[b].c=1"], **QUICK)
    assert not list((tmp_path / "minari").rglob("*none*"))


def test_a_trace_is_the_evaluations_first_episode(model: Path) -> None:
    options = {key: value for key, value in QUICK.items() if key != "progress"}
    trace = trace_episode(model, ID, seed=40, action_chunk=2, film=False, **options)
    result = evaluate(model, ID, episodes=1, seed=40, action_chunk=2, **QUICK)
    assert trace.rewards.sum() == pytest.approx(result.returns[0], rel=1e-4)
    steps = len(trace.actions)
    assert trace.states.shape == (steps + 1, 4) and not trace.frames
    assert trace.plan_steps.tolist() == list(range(0, steps, 2))
    assert trace.kept_states.shape[1:] == (3, 6, 4)
    discounts = 0.97 ** np.arange(steps)
    expected = (discounts * trace.rewards).sum() - trace.terminated * 3.0 * discounts[-1]
    assert trace.realized[0] == pytest.approx(expected, rel=1e-5)
