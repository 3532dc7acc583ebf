"""Policies from planners: what they learn, where they may go on, and what they leave alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from point_robot import ID, PERIOD_S
from random_models import random_model, random_spec, random_tensors

import dmpc_fast
from dmpc_fast.evaluation.evaluate import evaluate
from dmpc_fast.imitation import distill_policy as module
from dmpc_fast.imitation.decisions import Decisions, load_progress
from dmpc_fast.imitation.distill_policy import CHECKPOINT, distill_policy
from dmpc_fast.imitation.driving import LabelledDriving
from dmpc_fast.imitation.fitting import fit, new_network, weights_of
from dmpc_fast.imitation.settings import ImitationSettings
from dmpc_fast.model_file import load_model, save_model
from dmpc_fast.normalizer import condition_vector
from dmpc_fast.planning.planner import Planner
from dmpc_fast.spec import PolicySpec

QUICK: dict[str, Any] = {
    "rounds": 2, "round_states": 30, "robots": 3, "steps": 30, "batch_size": 16, "layers": 1,
    "width": 9, "num_samples": 3, "max_steps": 8, "progress": False,
}  # fmt: skip


@pytest.fixture
def model(tmp_path: Path) -> Path:
    spec = random_spec(state=4, action=2, control_period_s=PERIOD_S, history=2)
    save_model(path := tmp_path / "planner.safetensors", spec, random_tensors(rng(), spec))
    return path


def rng() -> np.random.Generator:
    return np.random.default_rng(8)


def test_the_file_is_the_models_with_a_policy(model: Path, tmp_path: Path) -> None:
    path = dmpc_fast.distill_policy(model, ID, out=tmp_path / "run", **QUICK)
    before, after = load_model(model), load_model(path)
    assert after.spec.policy == PolicySpec(1, 9)
    assert (
        dataclasses.replace(after.spec, policy=None, provenance=before.spec.provenance)
        == before.spec
    )
    for name, array in before.tensors.items():
        assert np.array_equal(after.tensors[name], array)
    made = after.spec.provenance["policy"]
    assert made["planner"] == before.sha256
    assert made["states"] >= 60
    result = evaluate(
        path, ID, episodes=2, seed=3, max_steps=5, progress=False,
        planner_options={"mode": "policy"},
    )  # fmt: skip
    assert result.summary()["plan_latency"]["plans"] > 0


def test_a_killed_run_goes_on_to_the_same_policy(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = load_model(distill_policy(model, ID, out=tmp_path / "whole", **QUICK))
    fits = module.fit

    def killed(*args: Any, **options: Any) -> Any:
        if options["round_"] == 1:
            raise KeyboardInterrupt
        return fits(*args, **options)

    monkeypatch.setattr(module, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        distill_policy(model, ID, out=tmp_path / "run", **QUICK)
    monkeypatch.setattr(module, "fit", fits)
    assert load_progress(tmp_path / "run" / CHECKPOINT).rounds == 1
    with pytest.raises(ValueError, match="other settings"):
        distill_policy(model, ID, out=tmp_path / "run", resume=True, **{**QUICK, "seed": 1})
    resumed = load_model(distill_policy(model, ID, out=tmp_path / "run", resume=True, **QUICK))
    for name, array in whole.tensors.items():
        assert np.array_equal(resumed.tensors[name], array), name
    with pytest.raises(FileExistsError, match="already holds a run"):
        distill_policy(model, ID, out=tmp_path / "run", **QUICK)


def test_what_cannot_be_is_refused(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        distill_policy(model, ID, out=out, resume=True, **QUICK)
    with pytest.raises(ValueError, match="rounds must be an integer of at least 1, got 0"):
        distill_policy(model, ID, out=out, **{**QUICK, "rounds": 0})
    spec = random_spec(state=4, action=2, control_period_s=PERIOD_S, context=1)
    save_model(path := tmp_path / "context.safetensors", spec, random_tensors(rng(), spec))
    with pytest.raises(ValueError, match="context of size 1"):
        distill_policy(path, ID, out=out, **QUICK)
    assert not out.exists()
    out.mkdir()
    (out / CHECKPOINT).write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(ValueError, match="no checkpoint of a policy's run"):
        load_progress(out / CHECKPOINT)


def test_the_planner_labels_what_others_drive() -> None:
    """Labels are those of a planner that knows what really ran."""
    model = random_model(np.random.default_rng(), history=3)
    planner, own = (
        Planner.load(model, backend="cpu", num_samples=3, num_robots=2, seed=5, action_chunk=1)
        for _ in range(2)
    )
    generator = np.random.default_rng()
    policy = generator.uniform(-0.5, 0.5, (6, 2, 3)).astype(np.float32)
    steps = iter(policy)
    driving = LabelledDriving(
        planner, model.normalizer, lambda conditions: next(steps), expert_share=0.0, seed=0
    )
    slots = np.arange(2)
    for slot in slots:
        driving.start(int(slot), 10 + int(slot))
        own.reset(robots=[slot], stream_ids=[10 + int(slot)])
    observations = generator.normal(size=(6, 2, 5)).astype(np.float32)
    expected, before = [], np.zeros((2, 3), np.float32)
    for seen, action in zip(observations, policy, strict=True):
        assert np.array_equal(driving.act(slots, seen), action)
        expected.append(own.act(seen, previous_action=before))
        before = action
    conditions, actions = driving.decisions()
    assert np.array_equal(actions, np.concatenate(expected))
    last = condition_vector(
        model.normalizer,
        observations[3:].swapaxes(0, 1),
        policy[3:5].swapaxes(0, 1),
        np.ones((2, 2), np.float32),
        np.zeros((2, 0), np.float32),
    )
    np.testing.assert_array_equal(conditions[-2:], last)
    assert driving.count == 12


def test_a_fit_finds_the_function_behind_the_decisions() -> None:
    model = random_model(np.random.default_rng(), policy=PolicySpec(1, 32))
    generator = np.random.default_rng()
    conditions = generator.normal(size=(3000, model.spec.condition_size)).astype(np.float32)
    truth = np.tanh(conditions @ generator.normal(size=(model.spec.condition_size, 3)) / 2)
    actions = model.normalizer.action.denormalize(truth.astype(np.float32))
    settings = ImitationSettings(steps=600, learning_rate=1e-2, ema_decay=0.98)
    losses: list[float] = []
    network = new_network(model.spec, 0)
    network = fit(
        network, Decisions(conditions, actions), model.normalizer, settings,
        steps=settings.steps, round_=0, heard=losses.append,
    )  # fmt: skip
    assert len(losses) == 600
    assert np.mean(losses[-50:]) < 0.1 * np.mean(losses[:5])
    assert set(weights_of(network)) == set(model.spec.policy_shapes())
