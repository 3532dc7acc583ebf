"""Experiments that compare the product with what others do, as small as they get."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from dmpc_fast.assets import resolve
from dmpc_fast.cli.main import main
from dmpc_fast.data.windows import Windows
from dmpc_fast.evaluation.collect import collect
from dmpc_fast.model_file import load_model, save_model
from dmpc_fast.rivals import point_mass
from dmpc_fast.rivals.dynamics_training import KINDS
from dmpc_fast.rivals.joint_model import joint_store
from dmpc_fast.rivals.open_loop import open_loop
from dmpc_fast.spec import SamplerSpec

SMALL = "--quick --seed 3 --threads 1 --backend cpu --no-progress --out r".split()


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def walker_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A little data under the id of the shipped model's own."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    dataset = load_model(resolve("walker2d")).spec.provenance["datasets"][0]
    collect("Walker2d-v5", dataset, model="random", episodes=6, max_steps=40, progress=False)
    return dataset


def _save_teacher(path: Path, steps: dict[str, int]) -> None:
    """The shipped model as if nothing of it had been distilled, with samplers of so many steps."""
    model = load_model(resolve("walker2d"))
    stages = dict(model.spec.stages)
    for name, count in steps.items():
        stages[name] = dataclasses.replace(stages[name], sampler=SamplerSpec.uniform(count))
    made = model.spec.provenance
    spec = dataclasses.replace(
        model.spec, stages=stages, provenance=made.get("parent_provenance", made)
    )
    save_model(path, spec, model.tensors)


def test_planners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpc_fast.evaluation.experiments.planners.TIMED_COUNTS", (2, 4))
    monkeypatch.setattr("dmpc_fast.evaluation.experiments.planners.TIMED_PLANS", 3)
    command = ["experiment", "planners", "--max-steps", "9", *SMALL]
    assert main(command) == 0
    folder = tmp_path / "r" / "planners"
    table = (folder / "table.md").read_text(encoding="utf-8")
    for search in ("ssr", "ssr-mujoco", "random-uniform", "mbop", "cem", "mppi-proposals"):
        assert f"| walker2d | {search} | count | 4 |" in table
    assert "| walker2d | cem | time |" in table
    report = json.loads((folder / "walker2d-ssr-count.json").read_text(encoding="utf-8"))
    assert len(report["result"]["scores"]) == 2
    monkeypatch.setattr("dmpc_fast.evaluation.experiments.planners._measure", lambda *_: 1 / 0)
    assert main(command) == 0


def test_settings(tmp_path: Path, walker_data: str) -> None:
    assert main(["experiment", "settings", "--max-steps", "9", *SMALL]) == 0
    table = (tmp_path / "r" / "settings" / "table.md").read_text(encoding="utf-8")
    for arm in ("usual", "candidates-1", "discount-0.9", "penalty-0", "horizon-8"):
        assert f"| {arm} |" in table


def test_severity(tmp_path: Path) -> None:
    assert main(["experiment", "severity", "--max-steps", "9", *SMALL]) == 0
    table = (tmp_path / "r" / "severity" / "table.md").read_text(encoding="utf-8")
    assert "| ankle-0.25 |" in table and "| v4-friction |" in table


@pytest.mark.parametrize(
    ("proposal", "dynamics", "students"),
    [
        (2, 2, ("student-before", "student-direct", "student-redistilled")),
        (2, 1, ("student-before", "student-direct")),
        (1, 1, ()),  # a student itself
    ],
)
def test_finetuning(
    proposal: int, dynamics: int, students: tuple[str, ...], tmp_path: Path, walker_data: str
) -> None:
    path = tmp_path / "walker.safetensors"
    _save_teacher(path, {"proposal": proposal, "dynamics": dynamics})
    command = ["experiment", "finetuning", "--max-steps", "40", "--train-steps", "2", *SMALL]
    command += ["--model", f"walker2d={path}"]
    assert main([*command, "--finetune-steps", "2"]) == 0
    folder = tmp_path / "r" / "finetuning"
    rows = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))["result"]
        for path in folder.glob("*.json")
    }
    assert set(rows) == {"before", "full", "last-layers", "lora", *students}
    errors = {name: tuple(row["defect"]["errors"]) for name, row in rows.items()}
    assert len(set(errors.values())) == len(rows) and len(errors["lora"]) == 32
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert all(f"| {row} |" in table for row in ("last-layers", *students))
    # A student's file says how it was made, and is one of the models that are kept.
    kept = {path.name.partition("-")[0] for path in (tmp_path / "r" / "models").iterdir()}
    assert "finetune" in kept and ("distill" in kept) == bool(students)


def test_joint(tmp_path: Path, walker_data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpc_fast.rivals.joint.COMPARED_STATES", 3)
    command = ["experiment", "joint", "--max-steps", "40", "--train-steps", "3", *SMALL]
    assert main(command) == 0
    folder = tmp_path / "r" / "joint"
    rows = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))["result"]
        for path in folder.glob("*.json")
    }
    assert set(rows) == {"pair-before", "pair-after", "joint-before", "joint-after"}
    # Of the pair, fine-tuning leaves the proposals alone; a joint model's move.
    assert rows["pair-after"]["shift"] == 0 < rows["joint-after"]["shift"]
    assert rows["pair-after"]["own_errors"][0] != rows["pair-before"]["own_errors"][0]
    assert len(rows["joint-after"]["own_errors"]) == 32
    monkeypatch.setattr("dmpc_fast.rivals.joint._measure", lambda *_: 1 / 0)
    assert main(command) == 0


def test_joint_store_pairs_states_with_actions() -> None:
    store = point_mass.demonstrations(5, seed=6)
    joint = joint_store(store)
    windows = Windows(joint, horizon=3, discount=0.99, termination_penalty=0.0)
    batch = windows.batch(np.arange(len(windows)))
    assert np.array_equal(batch.actions[..., :2], batch.next_states)
    own = Windows(store, horizon=3, discount=0.99, termination_penalty=0.0)
    assert np.array_equal(batch.actions[..., 2:], own.batch(np.arange(len(own))).actions)
    assert joint.environment.action_low[:3] == (None, None, -point_mass.BOUND)


def test_proposals(tmp_path: Path) -> None:
    assert main(["experiment", "proposals", "--train-steps", "30", *SMALL]) == 0
    table = (tmp_path / "r" / "proposals" / "table.md").read_text(encoding="utf-8")
    assert "| diffusion-single-step |" in table and "| gaussian-multi-step |" in table


def test_lanes_are_two() -> None:
    store = point_mass.demonstrations(20, seed=4)
    first = store.observations.reshape(20, -1, 2)[:, 0]
    actions = store.actions.reshape(20, -1, 2)
    assert point_mass.succeeded(point_mass.rolled(first, actions)).mean() > 0.9
    assert not point_mass.succeeded(point_mass.rolled(first, 0.5 * actions)).any()


def test_dynamics(tmp_path: Path, walker_data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dmpc_fast.rivals.dynamics.TIMED_PLANS", 2)
    monkeypatch.setattr("dmpc_fast.rivals.dynamics_training.TIMED_STEPS", 2)
    command = ["experiment", "dynamics", "--train-steps", "3", "--max-steps", "9", *SMALL]
    assert main(command) == 0
    table = (tmp_path / "r" / "dynamics" / "table.md").read_text(encoding="utf-8")
    for arm in ("shipped", *KINDS):
        assert f"| {arm} |" in table
    reports = {
        arm: json.loads((tmp_path / "r" / "dynamics" / f"{arm}.json").read_text(encoding="utf-8"))
        for arm in ("budget", *KINDS)
    }
    steps = reports["budget"]["result"]["steps"]
    assert steps["diffusion-multi-step"] == 3 and min(steps.values()) == 3
    for kind in KINDS:
        row = reports[kind]["result"]
        assert row["train_steps"] == steps[kind] and len(row["errors"]) == 256
        assert f"{row['learning_rate']:g}" == min(
            row["tuning_errors"], key=row["tuning_errors"].get
        )


def test_open_loop_of_a_perfect_model(tmp_path: Path) -> None:
    store = point_mass.demonstrations(30, seed=5)
    windows = Windows(store, horizon=6, discount=0.99, termination_penalty=0.0)
    errors, unrelated, counts = open_loop(
        lambda states, actions: point_mass.rolled(states, actions), windows, np.ones(2), seed=5
    )
    assert errors.max() < 1e-5 < unrelated
    assert (counts > 0).all()
