"""`distill`: from a teacher to a student of few steps, and the losses of students."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dmpc_fast.data.minari import load_episodes
from dmpc_fast.model_file import Model, load_model
from dmpc_fast.models.loading import load_networks
from dmpc_fast.spec import ModelSpec
from dmpc_fast.training.block_kernels import use_kernels
from dmpc_fast.training.distillation import Distillation
from dmpc_fast.training.distributed import processes
from dmpc_fast.training.loop import Callback, Trainer
from dmpc_fast.training.run import (
    check_sizes,
    held_out_split,
    network_tensors,
    refuse_existing,
    stored,
    warn_of_policy,
)
from dmpc_fast.training.settings import TrainingSettings, on_device
from dmpc_fast.training.stage_loss import StageLoss
from dmpc_fast.training.student import StudentLoss
from dmpc_fast.training.student_recipe import (
    LEARNING_RATE,
    datasets_of,
    recipe_losses,
    student_settings,
    student_spec,
)


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
        ValueError: the teacher names no dataset, does not fit it, or is a student itself, or an
            option is out of range.
        FileExistsError: `out` already holds a run and `resume` is false.
    """
    out = Path(out)
    refuse_existing(out, resume)
    teacher = load_model(model_file(Path(model)))
    warn_of_policy(teacher)
    if resume:
        training, spec = stored(out)
        _check_parent(spec, teacher, out)
        ids = list(spec.provenance["datasets"])
    else:
        ids = [dataset] if isinstance(dataset, str) else list(dataset or datasets_of(teacher.spec))
        given = on_device({"learning_rate": learning_rate, **settings}, device)
        training = student_settings(teacher.spec, steps, given)
        evaluations = {"proposal": proposal_steps, "dynamics": dynamics_steps}
        losses = recipe_losses(
            teacher.spec,
            list(training.steps),
            distillation or {},
            evaluations,
            without_teacher=without_teacher,
        )
        spec = student_spec(teacher, ids, training, losses, evaluations)
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


def model_file(path: Path) -> Path:
    """The model of a run's folder, or the file itself."""
    return path / "model.safetensors" if path.is_dir() else path


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
        use_kernels(getattr(networks, stage), spec, training, place)
        made = Distillation.from_provenance(stage, spec.provenance)
        if made is None:
            raise ValueError(f"the run's description says nothing of how {stage} is distilled")
        losses[stage] = StudentLoss(made, count, getattr(networks, stage))
    return losses
