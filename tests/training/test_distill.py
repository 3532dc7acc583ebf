"""`distill` from end to end on a small dataset: what it keeps, resumes, refuses and hands on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from dmpc_fast.cli.main import main
from dmpc_fast.model_file import load_model, save_model
from dmpc_fast.planning.planner import Planner
from dmpc_fast.training import student_recipe
from dmpc_fast.training.api import finetune, train
from dmpc_fast.training.distill import distill
from dmpc_fast.training.loop import Trainer

QUICK: dict[str, Any] = {"batch_size": 8, "compile": False, "progress": False}


@pytest.fixture
def teacher(dataset: str, tmp_path: Path) -> Path:
    return train(
        dataset,
        out=tmp_path / "teacher",
        preset="tiny",
        stage_options={"patch": 4},
        horizon=8,
        steps=4,
        control_period_s=0.05,
        seed=3,
        dynamics_steps=3,
        dynamics_angles="all",
        recommended={"num_samples": 7, "action_chunk": 2},
        **QUICK,
    )


def test_student_keeps_all_but_proposal_and_dynamics(teacher: Path, tmp_path: Path) -> None:
    path = distill(teacher.parent, out=tmp_path / "student", steps=5, **QUICK)
    before, after = load_model(teacher), load_model(path)
    for stage in ("proposal", "dynamics"):
        assert len(before.spec.stages[stage].sampler.angles) > 1
        assert after.spec.stages[stage].sampler.angles == (np.pi / 2,)
    changed = {
        name.split(".")[0]
        for name, tensor in before.tensors.items()
        if not np.array_equal(tensor, after.tensors[name])
    }
    assert changed == {"proposal", "dynamics"}
    assert after.spec.recommended == before.spec.recommended
    told = after.spec.provenance
    assert told["recipe"] == "distill" and told["parent"] == before.sha256
    for stage in ("proposal", "dynamics"):
        # What is learned is the teacher's own sampler.
        entry = told["distillation"][stage]
        assert (entry["method"], entry["solver"]) == ("regression", "ddim")
        assert entry["solver_steps"] == before.spec.stages[stage].sampler.steps
    assert told["training"]["seed"] == 3  # the same episodes are held out
    plan = Planner.load(path, backend="torch").plan(np.zeros(4))
    assert np.isfinite(plan.scores).all()


def test_dynamics_of_one_step_are_left_as_they_are(
    dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student_recipe, "DISTILL_STEPS", {"proposal": 2, "dynamics": 2})
    options = {**QUICK, "preset": "tiny", "stage_options": {"patch": 4}, "horizon": 8, "steps": 2}
    made = train(dataset, out=tmp_path / "teacher", control_period_s=0.05, **options)
    teacher = load_model(made)
    student = load_model(distill(made, out=tmp_path / "student", **QUICK))
    assert set(student.spec.provenance["distillation"]) == {"proposal"}
    for name, tensor in teacher.tensors.items():
        if name.startswith("dynamics."):
            np.testing.assert_array_equal(student.tensors[name], tensor)
    with pytest.raises(ValueError, match="nothing to distil"):
        distill(tmp_path / "student" / "model.safetensors", out=tmp_path / "again", **QUICK)
    # They are fine-tuned as their own training learned them, not by the settings of the proposal's.
    tuned = finetune(
        tmp_path / "student" / "model.safetensors",
        dataset,
        out=tmp_path / "tuned",
        steps=1,
        **QUICK,
    )
    training = load_model(tuned).spec.provenance["training"]
    assert (training["dynamics_angles"], training["horizon_weighting"]) == ("sampler", 2.0)


def test_the_command_leaves_dynamics_of_one_step_as_they_are(
    dataset: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options: dict[str, Any] = {
        **QUICK,
        "preset": "tiny",
        "stage_options": {"patch": 4},
        "horizon": 8,
    }
    made = train(dataset, out=tmp_path / "teacher", steps=2, control_period_s=0.05, **options)
    out = tmp_path / "student"
    command = ["distill", str(made.parent), "--out", str(out), "--steps", "2", "--batch-size", "8"]
    assert main([*command, "--no-compile", "--no-progress", "--loss", "denoising_weight=0.5"]) == 0
    student = load_model(out / "model.safetensors")
    assert set(student.spec.provenance["distillation"]) == {"proposal"}
    assert main([*command, "--loss", "dynamics.denoising_weight=0.5"]) == 2
    assert "is of a stage that is not distilled" in capsys.readouterr().err


def test_gates_are_logged(teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    distill(teacher, out=out, steps=4, validate_every=2, **QUICK)
    rows = [json.loads(row) for row in (out / "metrics.jsonl").read_text().splitlines()]
    names = {"validation_paired_error", "validation_spread", "validation_spread_low"}
    for stage in ("proposal", "dynamics"):
        assert any(names <= row.keys() for row in rows if row["stage"] == stage)


@pytest.mark.parametrize("method", ["regression", "consistency"])
def test_a_stopped_run_ends_bit_for_bit_the_same(
    method: str, teacher: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {
        **QUICK,
        "steps": 6,
        "checkpoint_every": 2,
        "distillation": {stage: {"method": method} for stage in ("proposal", "dynamics")},
    }
    expected = load_file(distill(teacher, out=tmp_path / "whole", **options))

    class Stop(Exception):
        pass

    original, saved = Trainer._checkpoint, []

    def save_then_stop(self: Trainer, *args: object, **kwargs: object) -> None:
        original(self, *args, **kwargs)
        saved.append(1)
        if len(saved) in (2, 4):
            raise Stop

    out = tmp_path / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_checkpoint", save_then_stop)
        for resume in (False, True):
            with pytest.raises(Stop):
                distill(teacher, out=out, resume=resume, **options)
    actual = load_file(distill(teacher, out=out, resume=True, **options))
    for name, tensor in expected.items():
        np.testing.assert_array_equal(tensor, actual[name], err_msg=name)


def test_another_teacher_does_not_resume_a_run(dataset: str, teacher: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    distill(teacher, out=out, steps={"dynamics": 2}, **QUICK)
    other = tmp_path / "other.safetensors"
    model = load_model(teacher)
    save_model(other, model.spec, {n: t + np.float32(1e-3) for n, t in model.tensors.items()})
    with pytest.raises(ValueError, match="but the one given is"):
        distill(other, out=out, resume=True, **QUICK)


def test_one_stage_alone_leaves_the_other(teacher: Path, tmp_path: Path) -> None:
    path = distill(
        teacher, out=tmp_path / "student", steps={"dynamics": 3}, dynamics_steps=2, **QUICK
    )
    before, after = load_model(teacher), load_model(path)
    assert after.spec.stages["proposal"] == before.spec.stages["proposal"]
    assert after.spec.stages["dynamics"].sampler.rule == "consistency"
    assert len(after.spec.stages["dynamics"].sampler.angles) == 2


def test_stages_are_distilled_one_after_the_other_but_never_twice(
    teacher: Path, tmp_path: Path
) -> None:
    first = distill(teacher, out=tmp_path / "first", steps={"proposal": 2}, **QUICK)
    with pytest.raises(ValueError, match="proposal of the teacher is a student's itself"):
        distill(first, out=tmp_path / "again", steps=2, **QUICK)
    second = distill(first, out=tmp_path / "second", steps={"dynamics": 2}, **QUICK)
    both = load_model(second)
    assert both.spec.provenance["distillation"].keys() == {"proposal", "dynamics"}
    assert all(both.spec.stages[stage].sampler.steps == 1 for stage in ("proposal", "dynamics"))
    for name, tensor in load_model(first).tensors.items():
        if name.startswith("proposal."):
            np.testing.assert_array_equal(both.tensors[name], tensor)


def test_a_student_is_fine_tuned_as_a_student(dataset: str, teacher: Path, tmp_path: Path) -> None:
    student = distill(teacher, out=tmp_path / "student", steps=3, **QUICK)
    path = finetune(student, dataset, out=tmp_path / "tuned", steps=3, **QUICK)
    model = load_model(path)
    assert model.spec.stages == load_model(student).spec.stages
    assert model.spec.provenance["distillation"]["dynamics"]["teacher"] is False


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": {"objective": 3}}, "steps has 'objective'"),
        ({"steps": {"proposal": 3}, "distillation": {"dynamics": {}}}, "stages are"),
        ({"without_teacher": True}, "is no proposal"),
        (
            {"without_teacher": True, "distillation": {"proposal": {"temperature": 0.5}}},
            "proposal has temperature 0.5",
        ),
        (
            {"dynamics_steps": 2, "distillation": {"dynamics": {"pure_noise": 1.0}}},
            "takes 1 evaluation, got 2",
        ),
    ],
)
def test_what_cannot_be_distilled_is_refused(
    options: dict[str, Any], message: str, teacher: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        distill(teacher, out=tmp_path / "student", **QUICK, **options)
    assert not (tmp_path / "student").exists()


def test_the_command(teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "student"
    command = f"distill {teacher} --out {out} --steps 3 --batch-size 8 --no-compile --no-progress"
    extra = ["--loss", "dynamics.method=consistency", "--proposal-steps", "2"]
    assert main([*command.split(), *extra]) == 0
    assert str(out / "model.safetensors") in capsys.readouterr().out
    spec = load_model(out / "model.safetensors").spec
    assert len(spec.stages["proposal"].sampler.angles) == 2
    losses = spec.provenance["distillation"]
    assert losses["dynamics"]["method"] == "consistency"
    assert [losses[stage]["pure_noise"] for stage in ("proposal", "dynamics")] == [0.5, 0.5]
    with pytest.raises(SystemExit):
        main([*command.split(), "--loss", "speed=3"])
    assert "speed=3" in capsys.readouterr().err
