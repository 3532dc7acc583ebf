"""Training and fine-tuning through the public functions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dmpc_fast.cli.main import main
from dmpc_fast.model_file import load_model, save_model
from dmpc_fast.spec import PolicySpec
from dmpc_fast.training import stage_loss
from dmpc_fast.training.api import finetune, train
from dmpc_fast.training.settings import TrainingSettings, on_device

OPTIONS = {
    "preset": "tiny",
    "stage_options": {"patch": 2},
    "horizon": 8,
    "steps": 4,
    "batch_size": 8,
    "compile": False,
    "control_period_s": 0.05,
    "progress": False,
}


def test_a_teacher_has_no_weights_for_the_target_angle(dataset: str, tmp_path: Path) -> None:
    model = load_model(train(dataset, out=tmp_path / "run", **OPTIONS))
    for stage in ("proposal", "dynamics"):
        assert not model.tensors[f"{stage}.0.condition.target.weight"].any()
    assert model.spec.provenance["datasets"] == [dataset]


def test_ensembles_have_different_members(dataset: str, tmp_path: Path) -> None:
    from dmpc_fast.spec import preset_stages

    stages = preset_stages("tiny", patch=2)
    assert stages["objective"].members == 1
    model = load_model(train(dataset, out=tmp_path / "run", objective_members=3, **OPTIONS))
    weights = [model.tensors[f"objective.{i}.token.weight"] for i in range(3)]
    assert model.spec.stages["objective"].members == 3
    assert not np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[1], weights[2])


def test_a_proposal_learns_at_its_samplers_angles_where_asked(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[int, set[float]] = {}
    original = stage_loss.velocity_loss

    def spy(
        network: Any, clean: Any, given: Any, condition: Any, valid: Any, angle: Any, *rest: Any
    ):
        asked.setdefault(clean.shape[-1], set()).update(angle.tolist())
        return original(network, clean, given, condition, valid, angle, *rest)

    monkeypatch.setattr(stage_loss, "velocity_loss", spy)
    options = {**OPTIONS, "proposal_steps": 2, "proposal_angles": "sampler"}
    spec = load_model(train(dataset, out=tmp_path / "run", dynamics_angles="all", **options)).spec
    assert sorted(asked[spec.action_size]) == pytest.approx([np.pi / 4, np.pi / 2])
    assert len(asked[spec.state_size]) > 8


@pytest.mark.parametrize(("unit", "expected"), [("avx512_bf16", "bf16"), ("avx2", "float32")])
def test_precision_is_what_the_processor_has_units_for(
    unit: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {unit: True})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = TrainingSettings(steps={})
    assert settings.precision == expected
    # A run keeps its precision wherever it is continued.
    assert json.loads(settings.to_json())["precision"] == expected
    # Beside a GPU, too, where the processor is asked for.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert on_device({}, "cpu") == {"precision": expected}
    assert on_device({}, "cuda:1") == on_device({}, None) == {"precision": "bf16"}
    assert on_device({"precision": "float32"}, "cuda") == {"precision": "float32"}


def test_finetune_changes_the_dynamics_alone(dataset: str, tmp_path: Path) -> None:
    parent = train(dataset, out=tmp_path / "run", **OPTIONS)
    child = finetune(
        parent, dataset, out=tmp_path / "fine", steps=3, batch_size=8, compile=False, progress=False
    )
    before, after = load_model(parent), load_model(child)
    changed = {
        name.split(".")[0]
        for name in before.tensors
        if not np.array_equal(before.tensors[name], after.tensors[name])
    }
    assert changed == {"dynamics"}
    assert after.spec.provenance["recipe"] == "finetune"
    assert after.spec.provenance["parent"] == before.sha256


def test_finetune_keeps_a_policy_and_says_that_it_is_old(dataset: str, tmp_path: Path) -> None:
    model = load_model(train(dataset, out=tmp_path / "run", **OPTIONS))
    spec = dataclasses.replace(model.spec, policy=PolicySpec(1, 3))
    weights = {
        f"policy.{name}": np.full(shape, 0.5, np.float32)
        for name, shape in spec.policy_shapes().items()
    }
    save_model(parent := tmp_path / "with.safetensors", spec, {**model.tensors, **weights})
    with pytest.warns(UserWarning, match="policy is kept as it is"):
        child = finetune(
            parent, dataset, out=tmp_path / "fine", steps=2, batch_size=8, compile=False,
            progress=False,
        )  # fmt: skip
    after = load_model(child)
    assert after.spec.policy == spec.policy
    for name, array in weights.items():
        assert np.array_equal(after.tensors[name], array)


def test_a_finished_run_is_not_written_over(dataset: str, tmp_path: Path) -> None:
    train(dataset, out=tmp_path / "run", **OPTIONS)
    with pytest.raises(FileExistsError, match="already holds a run"):
        train(dataset, out=tmp_path / "run", **OPTIONS)
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        train(dataset, out=tmp_path / "other", resume=True)


def test_compiled_and_eager_training_agree(dataset: str, tmp_path: Path) -> None:
    """The attention that is written for the compiler is the same function."""
    options = {**OPTIONS, "precision": "float32", "seed": 3}
    # Muon orthogonalises in bfloat16, which makes much of little.
    options |= {"muon": ()}
    eager = load_model(train(dataset, out=tmp_path / "eager", **options))
    compiled = load_model(train(dataset, out=tmp_path / "compiled", **{**options, "compile": True}))
    for name, tensor in eager.tensors.items():
        scale = np.abs(tensor).max() + 1e-6
        np.testing.assert_allclose(
            compiled.tensors[name] / scale, tensor / scale, atol=1e-3, err_msg=name
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": {"proposals": 3}}, "unknown stage 'proposals'"),
        ({"steps": {"proposal": 0}}, "at least 1, got 0"),
        ({"steps": {}, "batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"steps": {}, "precision": "fp8"}, "got 'fp8'"),
        ({"steps": {}, "validation_fraction": 1.0}, "between 0 and 1, got 1.0"),
        ({"steps": {}, "start_steps": 0}, "start_steps must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingSettings(**settings)


def test_muon_without_a_stage_is_adamw_for_all(dataset: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = "--preset tiny --patch 4 --horizon 8 --steps 1 --batch-size 8 --no-compile"
    given = "--control-period 0.05 --no-progress --muon --dynamics-steps 3 --dynamics-angles all"
    arguments = ["train", "--dataset", dataset, "--out", str(out), *command.split(), *given.split()]
    assert main(arguments) == 0
    made = load_model(out / "model.safetensors").spec
    assert made.provenance["training"]["muon"] == []
    assert made.stages["dynamics"].sampler.steps == 3
    assert main([*arguments, "--resume"]) == 0
