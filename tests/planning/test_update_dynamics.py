"""Other weights of the dynamics between two plans: what changes, what does not, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_models import random_model, random_tensors

from dmpc_fast.backends import registry
from dmpc_fast.model_file import Model, load_model, save_model
from dmpc_fast.normalizer import Normalizer
from dmpc_fast.planning.planner import Planner
from dmpc_fast.planning.warm_start import WarmStart

ARRAYS = ("actions", "states", "scores")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


def replaced(
    rng: np.random.Generator, model: Model, keep: Callable[[str], bool], **changes: Any
) -> Model:
    """`model` with new tensors but those to keep, and with `changes` of its spec."""
    spec = dataclasses.replace(model.spec, **changes)
    new = random_tensors(rng, spec)
    tensors = {name: model.tensors[name] if keep(name) else new[name] for name in new}
    return Model(spec, Normalizer.from_tensors(tensors), tensors, sha256=rng.bytes(32).hex())


def adapted(rng: np.random.Generator, model: Model) -> Model:
    provenance = {"recipe": "finetune"}
    return replaced(rng, model, lambda n: not n.startswith("dynamics."), provenance=provenance)


def make(model: Model, backend: str = "cpu", **options: Any) -> Planner:
    return Planner.load(model, **{"backend": backend, "num_samples": 5, "seed": 3, **options})


def same(a: Any, b: Any) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in ARRAYS)


@pytest.mark.parametrize("backend", ["cpu", "torch"])
def test_the_next_plan_is_the_new_models(rng: np.random.Generator, backend: str) -> None:
    old = random_model(rng, history=2)
    new = adapted(rng, old)
    planner, obs = make(old, backend), rng.normal(size=(2, 5))
    planner.act(obs[0])
    before = planner.plan(obs[1])
    planner.update_dynamics(new)
    plan = planner.plan(obs[1])
    np.testing.assert_array_equal(plan.actions, before.actions)  # the same proposal and noise
    assert not np.array_equal(plan.states, before.states)
    assert planner.plan_index == 1 and planner.model_sha256 == new.sha256

    # History and place in the random stream went on: the new model makes that very plan.
    assert plan.origin.requests[0][1].mask.tolist() == [[1]]
    assert same(make(new, backend).replay(plan.record()), plan)


def test_records_name_the_model_that_planned(rng: np.random.Generator) -> None:
    old = random_model(rng)
    new = adapted(rng, old)
    planner, obs = make(old), rng.normal(size=5)
    first = planner.plan(obs)
    planner.update_dynamics(new)
    second = planner.plan(obs)
    records = [json.loads(json.dumps(plan.record())) for plan in (first, second)]
    assert [record["model"] for record in records] == [old.sha256, new.sha256]
    assert same(planner.replay(records[1]), second)
    with pytest.raises(ValueError, match="record is of model"):
        planner.replay(records[0])
    planner.update_dynamics(old)
    assert same(planner.replay(records[0]), first)


def test_a_plan_in_progress_is_run_to_its_end(rng: np.random.Generator) -> None:
    old = random_model(rng)
    planner = make(old, action_chunk=3)
    first = planner.act(rng.normal(size=5))
    chosen = planner.last_plan.actions[planner.last_plan.best]
    planner.update_dynamics(adapted(rng, old))
    later = [planner.act(rng.normal(size=5)) for _ in range(2)]
    np.testing.assert_array_equal([first, *later], chosen[:3])


def test_files_serve_as_models_do(rng: np.random.Generator, tmp_path: Path) -> None:
    old = random_model(rng)
    for name, model in (("old", old), ("new", adapted(rng, old))):
        save_model(tmp_path / f"{name}.safetensors", model.spec, model.tensors)
    planner, obs = Planner.load(tmp_path / "old.safetensors", backend="cpu"), rng.normal(size=5)
    planner.update_dynamics(tmp_path / "new.safetensors")
    assert planner.plan(obs).record()["model"] == load_model(tmp_path / "new.safetensors").sha256
    (tmp_path / "wrong.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"wrong\.safetensors"):
        planner.update_dynamics(tmp_path / "wrong.safetensors")
    with pytest.raises(FileNotFoundError):
        planner.update_dynamics(tmp_path / "absent.safetensors")


def test_what_does_not_fit_is_refused_and_changes_nothing(rng: np.random.Generator) -> None:
    old = random_model(rng)
    planner, obs = make(old), rng.normal(size=5)
    before = planner.plan(obs)

    def other(*kept: str, **changes: Any) -> Model:
        return replaced(rng, old, lambda n: n.startswith(kept), **changes)

    wider = {
        **old.spec.stages,
        "dynamics": dataclasses.replace(old.spec.stages["dynamics"], width=32),
    }
    everything = ("proposal.", "objective.", "normalizer.")
    for model, message in (
        (other("objective.", "normalizer."), "differs from the planner's in 'proposal.0.token.weight'"),
        (other("proposal.", "normalizer."), "differs from the planner's in 'objective.0"),
        (other("proposal.", "objective."), "differs from the planner's in 'normalizer.state.mean'"),
        (other(*everything, discount=0.5), "discount is 0.5, the planner's 0.97"),
        (other(*everything, stages=wider), r"stages.dynamics is .*width=32.*, the planner's"),
        (random_model(rng, history=2), "history is 2, the planner's 1"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            planner.update_dynamics(model)
        assert planner.model_sha256 == old.sha256
    assert same(planner.plan(obs), before)
    ready_made = Planner(old, registry.create("cpu", old), dtype="float32")
    with pytest.raises(ValueError, match=r"Planner\.load"):
        ready_made.update_dynamics(adapted(rng, old))


def test_no_plan_is_torn_by_an_update(rng: np.random.Generator) -> None:
    """One thread plans without pause, in two requests each, while another swaps the dynamics."""
    models = [random_model(rng, history=2)]
    models += [adapted(rng, models[0]) for _ in range(2)]
    obs = rng.normal(size=(2, 5))
    options: dict[str, Any] = {"num_robots": 2, "warm_start": WarmStart(0.5, 0.5), "threads": 1}
    planner = make(models[0], **options)
    # Robot 1 has a plan to start from and robot 0 has none, which makes two requests of each plan.
    planner.act(obs)
    planner.reset(robots=[0])
    expected = {}
    for model in models:
        planner.update_dynamics(model)
        expected[model.sha256] = planner.plan(obs)
    assert len(planner.plan(obs).origin.requests) == 2

    done, failures = threading.Event(), []

    def update() -> None:
        try:
            for round_number in range(60):
                planner.update_dynamics(models[round_number % 3])
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=update)
    thread.start()
    seen = set()
    while not done.is_set():
        plan = planner.plan(obs)
        assert same(plan, expected[plan.origin.model])
        seen.add(plan.origin.model)
    thread.join()
    assert not failures
    assert len(seen) > 1


def test_expectation_is_the_chosen_plan_step_by_step(rng: np.random.Generator) -> None:
    planner = make(random_model(rng), action_chunk=2)
    states, steps = planner.expectation()
    assert np.isnan(states).all() and steps == -1
    for i in range(5):
        planner.act(rng.normal(size=5))
        states, steps = planner.expectation()
        plan = planner.last_plan
        assert steps == i % 2
        np.testing.assert_array_equal(states, plan.states[plan.best, steps])
    planner.reset()
    assert planner.expectation().steps == -1


def test_expectations_of_several_robots(rng: np.random.Generator) -> None:
    planner = make(random_model(rng), num_robots=3, action_chunk=2)
    planner.act(rng.normal(size=(2, 5)), robots=[2, 0])
    planner.act(rng.normal(size=(1, 5)), robots=[0])
    states, steps = planner.expectation()
    assert steps.tolist() == [1, -1, 0]
    assert np.isnan(states[1]).all()
    plan = planner.last_plan
    np.testing.assert_array_equal(states[2], plan.states[0, plan.best[0], 0])
    np.testing.assert_array_equal(states[0], plan.states[1, plan.best[1], 1])
