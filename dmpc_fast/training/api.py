"""`train` and `finetune`: from a dataset's name to a model file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from dmpc_fast.data.minari import load_episodes
from dmpc_fast.model_file import load_model
from dmpc_fast.spec import PRESETS, STAGES, ModelSpec, preset_stages
from dmpc_fast.training.adaptation import Adaptation
from dmpc_fast.training.distill import student_losses
from dmpc_fast.training.distillation import carried_on
from dmpc_fast.training.distributed import processes
from dmpc_fast.training.kept import kept_normalizer, kept_stages, kept_tensors, with_kept
from dmpc_fast.training.loop import SETTINGS, Callback, Trainer
from dmpc_fast.training.run import (
    check_sizes,
    held_out_split,
    inherited,
    network_tensors,
    provenance,
    refuse_existing,
    stored,
    warn_of_policy,
)
from dmpc_fast.training.settings import TrainingSettings, on_device

#: Optimiser steps per stage when none are given.
DEFAULT_STEPS = {"proposal": 8000, "dynamics": 10000, "objective": 3000}
#: Settings of `train` that are not those of `TrainingSettings` itself (docs/recipes.md says why).
TRAIN_DEFAULTS: dict[str, Any] = {
    "muon": ("dynamics",),
    "dynamics_angles": "sampler",
    "horizon_weighting": 2.0,
}
FINETUNE_STEPS = 2000
#: Settings of the dynamics' own loss, which fine-tuning goes on with.
FINETUNE_INHERITED = ("dynamics_angles", "horizon_weighting")
SETTING_NAMES = tuple(
    field.name for field in dataclasses.fields(TrainingSettings) if field.name != "steps"
)


def train(
    dataset: str | Sequence[str],
    *,
    preset: str = "small",
    out: str | Path,
    steps: int | dict[str, int] | None = None,
    horizon: int = 32,
    history: int = 1,
    discount: float = 0.99,
    termination_penalty: float = 100.0,
    proposal_steps: int = 5,
    dynamics_steps: int = 1,
    objective_members: int = 1,
    stage_options: dict[str, Any] | None = None,
    recommended: dict[str, Any] | None = None,
    control_period_s: float | None = None,
    base: str | Path | None = None,
    only: Sequence[str] | None = None,
    resume: bool = False,
    progress: bool = True,
    device: str | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Path:
    """Train proposal, dynamics and objective on logged data (D-MPC, Zhou et al. 2025, section 3).

    Args:
        dataset: Minari dataset id, or several for a mixture.
        preset: ``tiny``, ``small`` or ``paper``.
        out: folder of the run. A run that was killed continues with ``resume=True``, which takes
            the run's own settings from the folder.
        steps: optimiser steps, per stage or for each of them.
        horizon: F, time steps planned ahead. history: H, observations the model is given.
        discount, termination_penalty: of the objective, in the units of the rewards.
        proposal_steps, dynamics_steps: DDIM steps that the file's samplers take. Dynamics of one step
            are asked at pure noise alone: what a robot does follows from state and actions nearly
            always, and their mean is then nearer to it than a sample (docs/recipes.md).
        objective_members: networks in the objective's ensemble; their scores are averaged.
        stage_options: fields of `StageSpec` to override in all stages, such as ``patch``, or in one:
            ``{"patch": 4, "dynamics": {"patch": 1}}``.
        recommended: planner options to store in the file.
        control_period_s: seconds between actions, where the dataset's environment cannot tell.
        base, only: train the stages `only` and take the others from the model `base`.
        settings: fields of `TrainingSettings`, such as ``batch_size``; not given, `TRAIN_DEFAULTS`
            come before the fields' own defaults.

    Returns:
        Path of the model file, ``out/model.safetensors``.

    Raises:
        ValueError: the dataset is unknown or unusable, or an option is out of range.
        FileExistsError: `out` already holds a run and `resume` is false.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {PRESETS}, got {preset!r}")
    out, ids = Path(out), [dataset] if isinstance(dataset, str) else list(dataset)
    refuse_existing(out, resume)
    kept = kept_stages(only)
    if bool(kept) != (base is not None):
        raise ValueError(f"base and only belong together, got base {base!r} and only {only!r}")
    parent = None if base is None else load_model(base)
    store = load_episodes(ids, control_period_s=control_period_s, progress=progress)
    with processes() as group:
        if resume and (out / SETTINGS).exists():
            training, spec = stored(out)
        else:
            trained = {name: n for name, n in _steps(steps).items() if name not in kept}
            training = TrainingSettings(
                steps=trained, **on_device({**TRAIN_DEFAULTS, **settings}, device)
            )
            stages = preset_stages(
                preset,
                proposal_steps=proposal_steps,
                dynamics_steps=dynamics_steps,
                **(stage_options or {}),
            )
            stages["objective"] = dataclasses.replace(
                stages["objective"], members=objective_members
            )
            spec = ModelSpec(
                state_size=store.observations.shape[1],
                action_size=store.actions.shape[1],
                horizon=horizon,
                history=history,
                context=int(training.return_condition),
                discount=discount,
                termination_penalty=termination_penalty,
                stages=stages,
                environment=store.environment,
                recommended=dict(recommended or {}),
                provenance=provenance(ids, training, {"preset": preset, "recipe": "train"}),
            )
            if parent is not None:
                spec = with_kept(spec, parent, kept)
        train_windows, validation = held_out_split(store, spec, training)
        if parent is None:
            normalizer = train_windows.normalizer()
        else:
            normalizer = kept_normalizer(parent, train_windows)
        trainer = Trainer(
            out,
            spec,
            normalizer,
            train_windows,
            validation,
            training,
            initial=None if parent is None else kept_tensors(parent, kept, spec.context),
            device=device,
            processes=group,
            progress=progress,
            callbacks=callbacks,
        )
        return trainer.resume() if resume else trainer.fit()


def finetune(
    model: str | Path,
    dataset: str | Sequence[str],
    *,
    out: str | Path,
    steps: int = FINETUNE_STEPS,
    learning_rate: float = 3e-4,
    method: Literal["full", "last_layers", "lora"] = "full",
    last_layers: int = 1,
    lora_rank: int = 8,
    lora_alpha: float = 16.0,
    resume: bool = False,
    progress: bool = True,
    device: str | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Path:
    """Adapt the dynamics model alone to new data (D-MPC, Zhou et al. 2025, section 4.3).

    Proposal, objective and normaliser stay those of `model`, and so do the noise angles and weights
    that its dynamics learned with. Where `model` is a student, its
    dynamics keep the student's own loss, on the new data in place of the teacher, and with it their
    sampler; the new file's provenance names that loss.

    Args:
        model: model file. dataset, out, resume, settings and the rest: as in `train`.
        steps: optimiser steps. learning_rate: the highest of the schedule.
        method, last_layers, lora_rank, lora_alpha: which weights change, see `Adaptation`; the file's
            format is the same for all.

    Returns:
        Path of the new model file, ``out/model.safetensors``.
    """
    adaptation = Adaptation(method, last_layers, lora_rank, lora_alpha)
    out, ids = Path(out), [dataset] if isinstance(dataset, str) else list(dataset)
    refuse_existing(out, resume)
    parent = load_model(model)
    warn_of_policy(parent)
    store = load_episodes(
        ids, control_period_s=parent.spec.environment.control_period_s, progress=progress
    )
    check_sizes(store, parent, ids)
    with processes() as group:
        if resume and (out / SETTINGS).exists():
            training, spec = stored(out)
        else:
            given = {**inherited(parent.spec, FINETUNE_INHERITED, "dynamics"), **settings}
            training = TrainingSettings(
                steps={"dynamics": steps}, learning_rate=learning_rate, **on_device(given, device)
            )
            details = {
                "recipe": "finetune",
                "parent": parent.sha256,
                "adaptation": dataclasses.asdict(adaptation),
                **carried_on(parent.spec.provenance),
            }
            spec = dataclasses.replace(
                parent.spec,
                provenance={
                    **provenance(ids, training, details),
                    "parent_provenance": parent.spec.provenance,
                },
            )
        train_windows, validation = held_out_split(store, spec, training)
        trainer = Trainer(
            out,
            spec,
            parent.normalizer,
            train_windows,
            validation,
            training,
            initial=network_tensors(parent),
            losses=student_losses(spec, training),
            adaptation=Adaptation.from_provenance(spec.provenance),
            device=device,
            processes=group,
            progress=progress,
            callbacks=callbacks,
        )
        return trainer.resume() if resume else trainer.fit()


def _steps(steps: int | dict[str, int] | None) -> dict[str, int]:
    if steps is None:
        return dict(DEFAULT_STEPS)
    return dict.fromkeys(STAGES, steps) if isinstance(steps, int) else {**DEFAULT_STEPS, **steps}
