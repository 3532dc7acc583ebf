"""What acts: a plan, a plan in progress, or the policy."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
from random_models import random_model

from dmpc_fast import _engine
from dmpc_fast.backends import registry
from dmpc_fast.model_file import save_model
from dmpc_fast.objectives import StateBound
from dmpc_fast.planning.planner import Planner
from dmpc_fast.spec import PolicySpec

SIZES = {"history": 2, "policy": PolicySpec(2, 21)}


def observation(planner: Planner, robots: int | None = None) -> np.ndarray:
    shape = (planner.spec.state_size,) if robots is None else (robots, planner.spec.state_size)
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("backend", ["torch", "cpu"])
def test_a_policy_acts_alone(backend: str) -> None:
    model = random_model(np.random.default_rng(), **SIZES)
    planner = Planner.load(model, backend=backend, mode="policy", num_robots=3)
    obs = observation(planner, 3)
    first = planner.act(obs)
    assert planner.last_plan is None
    assert planner.last_source.tolist() == ["policy"] * 3
    # With a history of two, what ran before is seen by what follows.
    assert not np.array_equal(planner.act(obs), first)
    planner.reset()
    assert np.array_equal(planner.act(obs), first)
    assert np.array_equal(planner.act(obs[[1]], robots=[1]), planner.act(obs[[2]], robots=[1])) is (
        False
    )


def test_sources_of_a_planner_without_deadline() -> None:
    planner = Planner.load(random_model(np.random.default_rng(), **SIZES), action_chunk=2)
    sources = []
    for _ in range(4):
        planner.act(observation(planner))
        sources.append(planner.last_source)
    assert sources == ["planned", "carried", "planned", "carried"]


class Slow:
    """The engine, whose least plan takes as long as it says."""

    def __init__(self, engine: object, seconds: float) -> None:
        self._engine, self._seconds, self.skipped = engine, seconds, 0

    def least_seconds(self, robots: int, num_samples: int) -> float:
        assert (robots, num_samples) == (1, 5)
        return self._seconds

    def skip(self) -> None:
        self.skipped += 1

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)


def slow_planner(seconds: float, **options: object) -> tuple[Planner, Slow]:
    model = random_model(np.random.default_rng(), **SIZES)
    engine = Slow(registry.create("cpu", model), seconds)
    return Planner(model, engine, dtype="float32", num_samples=5, **options), engine


def test_the_policy_answers_where_a_plan_would_be_late() -> None:
    planner, engine = slow_planner(0.5, action_chunk=3)
    obs = observation(planner)
    planner.act(obs, deadline_s=math.inf)
    assert planner.last_source == "planned"
    assert planner.expectation().steps == 0
    for _ in range(2):
        planner.act(obs, deadline_s=0.1)
        assert planner.last_source == "carried"  # costs nothing, so no deadline can miss it
    action = planner.act(obs, deadline_s=0.1)
    assert (planner.last_source, engine.skipped) == ("policy", 1)
    assert planner.expectation().steps == -1
    planner.act(obs, deadline_s=3600.0)
    assert planner.last_source == "planned"
    assert np.isfinite(action).all()


def test_without_fallback_a_plan_is_late() -> None:
    planner, engine = slow_planner(0.5, fallback=False)
    planner.act(observation(planner), deadline_s=0.0)
    assert (planner.last_source, engine.skipped) == ("planned", 0)
    assert planner.last_plan is not None
    assert planner.last_plan.level.missed


def test_another_objective_is_not_the_policys() -> None:
    planner, engine = slow_planner(0.5)
    planner.set_objective([StateBound(0, low=-1.0)])
    planner.act(observation(planner), deadline_s=0.1)
    assert (planner.last_source, engine.skipped) == ("planned", 0)
    planner.set_objective(None)
    planner.act(observation(planner), deadline_s=0.1)
    assert (planner.last_source, engine.skipped) == ("policy", 1)


def test_a_model_without_policy_plans_late() -> None:
    planner = Planner.load(random_model(np.random.default_rng()), backend="cpu")
    for _ in range(3):
        planner.act(observation(planner), deadline_s=0.0)
        assert planner.last_source == "planned"
    with pytest.raises(ValueError, match="the model has no policy"):
        Planner.load(random_model(np.random.default_rng()), mode="policy")
    with pytest.raises(ValueError, match="mode must be one of"):
        Planner.load(random_model(np.random.default_rng()), mode="both")


def test_the_engine_comes_back_to_planning() -> None:
    """An estimate that keeps plans from being made is never confirmed: it must fade."""
    planner = Planner.load(random_model(np.random.default_rng(), **SIZES), backend="cpu")
    obs = observation(planner)
    planner.act(obs)  # the first plan tells the engine its pace
    sources = []
    for _ in range(1000):
        begin = time.perf_counter()
        planner.act(obs, deadline_s=1e-9)
        sources.append(planner.last_source)
        assert time.perf_counter() - begin < 60
        if planner.last_source == "planned":
            break
    assert sources[0] == "policy"


def test_the_native_planner_acts_alike(tmp_path: Path) -> None:
    model = random_model(np.random.default_rng(), **SIZES)
    save_model(path := tmp_path / "model.safetensors", model.spec, model.tensors)
    native = _engine.Planner.load(
        path, num_samples=4, action_chunk=1, seed=0, dtype="float32", threads=1, mode="policy"
    )
    planner = Planner.load(path, backend="cpu", mode="policy")
    for _ in range(3):
        obs = observation(planner)
        assert np.array_equal(native.act(obs), planner.act(obs))
        assert native.source == "policy"


def test_the_native_planner_falls_back(tmp_path: Path) -> None:
    model = random_model(np.random.default_rng(), **SIZES)
    save_model(path := tmp_path / "model.safetensors", model.spec, model.tensors)
    native = _engine.Planner.load(
        path, num_samples=4, action_chunk=2, seed=0, dtype="float32", threads=1, deadline_s=1e-9
    )
    obs = np.zeros(model.spec.state_size, np.float32)
    sources = []
    for _ in range(3):
        native.act(obs)
        sources.append(native.source)
    # The first plan is made, as nothing is known of its time yet.
    assert sources == ["planned", "carried", "policy"]
