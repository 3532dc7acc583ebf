"""`distill`: from a teacher to a student of few steps, and the losses of students."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dmpc_fast.data.minari import load_episodes
from dmpc_fast.model_file import Model, load_model
from dmpc_fast.models.loading import load_networks
from dmpc_fast.spec import ModelSpec, SamplerSpec
from dmpc_fast.training.distillation import Distillation
from dmpc_fast.training.distributed import processes
from dmpc_fast.training.loop import Callback, Trainer
from dmpc_fast.training.run import (
    check_sizes,
    held_out_split,
    network_tensors,
    provenance,
    refuse_existing,
    stored,
)
from dmpc_fast.training.settings import TrainingSettings
from dmpc_fast.training.stage_loss import StageLoss
from dmpc_fast.training.student import StudentLoss

STUDENT_STAGES = ("proposal", "dynamics")
#: Optimiser steps per stage when none are given.
DISTILL_STEPS = {"proposal": 2500, "dynamics": 1500}
LEARNING_RATE = 1e-3
#: Settings of the teacher's training that decide which windows there are and how they are drawn.
INHERITED = (
    "seed",
    "validation_fraction",
    "return_temperature",
    "start_fraction",
    "start_steps",
)
#: The losses of the recipe, by stage; docs/distillation.md has what else was tried.
RECIPE = {
    "proposal": Distillation(solver_steps=6),
    "dynamics": Distillation(solver_steps=4),
}


def distill(
    model: str | Path,
    dataset: str | Sequence[str] | None = None,
    *,
    out: str | Path,
    steps: int | dict[str, int] | None = None,
    proposal_steps: int = 1,
    dynamics_steps: int = 1,
    without_teacher: bool = False,
    distillation: dict[str, dict[str, Any]] | None = None,
    learning_rate: float = LEARNING_RATE,
    resume: bool = False,
    progress: bool = True,
    device: str | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Path:
    """Teach proposal and dynamics to jump in one step to where their teacher goes in many.

    The student starts from the weights of `model`, and keeps its objective and normaliser. Which
    windows are held out and how they are drawn is as in the teacher's training, unless given.

    Args:
        model: model file or run's folder of the teacher.
        dataset: the teacher's own where None. out: folder of the run, see `train`.
        steps: optimiser steps, per stage or for each of proposal and dynamics; a stage that a
            dictionary leaves out keeps the teacher's weights and sampler.
        proposal_steps, dynamics_steps: network evaluations that the file's samplers take.
        without_teacher: learn to jump from the data alone, still from the teacher's weights.
        distillation: fields of `Distillation` to override, by stage.
        settings: fields of `TrainingSettings`, such as ``batch_size``. The rest as in `train`.

    Returns:
        Path of the model file, ``out/model.safetensors``.

    Raises:
        ValueError: the teacher names no dataset, does not fit it, or an option is out of range.
        FileExistsError: `out` already holds a run and `resume` is false.
    """
    out = Path(out)
    refuse_existing(out, resume)
    teacher = load_model(_model_file(Path(model)))
    if resume:
        training, spec = stored(out)
        _check_parent(spec, teacher, out)
        ids = list(spec.provenance["datasets"])
    else:
        ids = _datasets(dataset, teacher.spec)
        inherited = _inherited(teacher.spec)
        training = TrainingSettings(
            steps=_steps(steps), **{**inherited, "learning_rate": learning_rate, **settings}
        )
        losses = _losses(training, without_teacher, distillation or {})
        evaluations = {"proposal": proposal_steps, "dynamics": dynamics_steps}
        spec = _student_spec(teacher, ids, training, losses, evaluations)
    period = teacher.spec.environment.control_period_s
    store = load_episodes(ids, control_period_s=period, progress=progress)
    check_sizes(store, teacher, ids)
    with processes() as group:
        windows, validation = held_out_split(store, spec, training)
        trainer = Trainer(
            out,
            spec,
            teacher.normalizer,
            windows,
            validation,
            training,
            initial=network_tensors(teacher),
            losses=_stage_losses(spec, training, teacher, device),
            device=device,
            processes=group,
            progress=progress,
            callbacks=callbacks,
        )
        return trainer.resume() if resume else trainer.fit()


def student_losses(spec: ModelSpec, training: TrainingSettings) -> dict[str, StageLoss]:
    """Losses, on data alone, of those stages that `training` trains and that a student's recipe
    made: what fine-tuning goes on with."""
    losses: dict[str, StageLoss] = {}
    for stage, count in training.steps.items():
        made = Distillation.from_provenance(stage, spec.provenance)
        if made is not None:
            losses[stage] = StudentLoss(made.without_teacher(), count, None)
    return losses


def _model_file(path: Path) -> Path:
    return path / "model.safetensors" if path.is_dir() else path


def _datasets(dataset: str | Sequence[str] | None, spec: ModelSpec) -> list[str]:
    if dataset is not None:
        return [dataset] if isinstance(dataset, str) else list(dataset)
    ids = spec.provenance.get("datasets")
    if not isinstance(ids, list) or not ids or not all(isinstance(name, str) for name in ids):
        raise ValueError(
            f"the teacher's provenance names no datasets (got {ids!r}): give the dataset"
        )
    return ids


def _inherited(spec: ModelSpec) -> dict[str, Any]:
    made = spec.provenance.get("training")
    made = made if isinstance(made, dict) else {}
    return {name: made[name] for name in INHERITED if name in made}


def _steps(steps: int | dict[str, int] | None) -> dict[str, int]:
    if steps is None:
        return dict(DISTILL_STEPS)
    if isinstance(steps, int):
        return dict.fromkeys(STUDENT_STAGES, steps)
    for stage in steps:
        if stage not in STUDENT_STAGES:
            raise ValueError(f"steps has {stage!r}, but a student has stages {STUDENT_STAGES}")
    return dict(steps)


def _losses(
    training: TrainingSettings, without_teacher: bool, overrides: dict[str, dict[str, Any]]
) -> dict[str, Distillation]:
    for stage in overrides:
        if stage not in training.steps:
            raise ValueError(
                f"distillation has {stage!r}, but the stages are {list(training.steps)}"
            )
    losses = {
        stage: dataclasses.replace(RECIPE[stage], **overrides.get(stage, {}))
        for stage in training.steps
    }
    if without_teacher:
        losses = {stage: loss.without_teacher() for stage, loss in losses.items()}
    proposal = losses.get("proposal")
    if proposal is not None and proposal.method == "regression" and not proposal.teacher:
        raise ValueError(
            "regression without a teacher learns the mean of the data, which is no proposal: use "
            "method 'consistency' for the proposal"
        )
    return losses


def _student_spec(
    teacher: Model,
    ids: list[str],
    training: TrainingSettings,
    losses: dict[str, Distillation],
    evaluations: dict[str, int],
) -> ModelSpec:
    stages = dict(teacher.spec.stages)
    for stage, loss in losses.items():
        # Without jumps that end above 0 in training, several steps must re-noise in between.
        rule = "ddim" if loss.intermediate or evaluations[stage] == 1 else "consistency"
        sampler = SamplerSpec.uniform(evaluations[stage], rule)  # type: ignore[arg-type]
        stages[stage] = dataclasses.replace(stages[stage], sampler=sampler)
    details = {
        "recipe": "distill",
        "parent": teacher.sha256,
        "distillation": {stage: dataclasses.asdict(loss) for stage, loss in losses.items()},
        "parent_provenance": teacher.spec.provenance,
    }
    return dataclasses.replace(
        teacher.spec, stages=stages, provenance=provenance(ids, training, details)
    )


def _check_parent(spec: ModelSpec, teacher: Model, out: Path) -> None:
    parent = spec.provenance.get("parent")
    if parent != teacher.sha256:
        raise ValueError(
            f"the run in {out} has the teacher {parent}, but the one given is {teacher.sha256}"
        )


def _stage_losses(
    spec: ModelSpec, training: TrainingSettings, teacher: Model, device: str | None
) -> dict[str, StageLoss]:
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    networks = load_networks(teacher.spec, teacher.tensors, device=place)
    losses: dict[str, StageLoss] = {}
    for stage, count in training.steps.items():
        made = Distillation.from_provenance(stage, spec.provenance)
        if made is None:
            raise ValueError(f"the run's description says nothing of how {stage} is distilled")
        losses[stage] = StudentLoss(made, count, getattr(networks, stage))
    return losses
