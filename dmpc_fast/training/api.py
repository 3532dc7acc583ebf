"""`train` and `finetune`: from a dataset's name to a model file."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dmpc_fast.data.minari import EpisodeStore, load_episodes
from dmpc_fast.data.windows import Windows, split_episodes
from dmpc_fast.model_file import Model, load_model
from dmpc_fast.spec import PRESETS, STAGES, ModelSpec, preset_stages
from dmpc_fast.training.distributed import processes
from dmpc_fast.training.loop import CHECKPOINT, MODEL, SETTINGS, SPEC, Callback, Trainer
from dmpc_fast.training.settings import TrainingSettings

#: Optimiser steps per stage when none are given.
DEFAULT_STEPS = {"proposal": 10000, "dynamics": 10000, "objective": 6000}
FINETUNE_STEPS = 2000
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
    dynamics_steps: int = 3,
    objective_members: int = 1,
    stage_options: dict[str, Any] | None = None,
    recommended: dict[str, Any] | None = None,
    control_period_s: float | None = None,
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
        proposal_steps, dynamics_steps: DDIM steps that the file's samplers take.
        objective_members: networks in the objective's ensemble; their scores are averaged.
        stage_options: fields of `StageSpec` to override in all stages, such as ``patch``, or in one:
            ``{"patch": 4, "dynamics": {"patch": 1}}``.
        recommended: planner options to store in the file.
        control_period_s: seconds between actions, where the dataset's environment cannot tell.
        settings: fields of `TrainingSettings`, such as ``batch_size``.

    Returns:
        Path of the model file, ``out/model.safetensors``.

    Raises:
        ValueError: the dataset is unknown or unusable, or an option is out of range.
        FileExistsError: `out` already holds a run and `resume` is false.
    """
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {PRESETS}, got {preset!r}")
    out, ids = Path(out), [dataset] if isinstance(dataset, str) else list(dataset)
    _refuse_existing(out, resume)
    store = load_episodes(ids, control_period_s=control_period_s, progress=progress)
    with processes() as group:
        if resume and (out / SETTINGS).exists():
            training, spec = _stored(out)
        else:
            training = TrainingSettings(steps=_steps(steps), **settings)
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
                context=0,
                discount=discount,
                termination_penalty=termination_penalty,
                stages=stages,
                environment=store.environment,
                recommended=dict(recommended or {}),
                provenance=_provenance(ids, training, {"preset": preset, "recipe": "train"}),
            )
        train_windows, validation = _windows(store, spec, training)
        trainer = Trainer(
            out,
            spec,
            train_windows.normalizer(),
            train_windows,
            validation,
            training,
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
    resume: bool = False,
    progress: bool = True,
    device: str | None = None,
    callbacks: Sequence[Callback] = (),
    **settings: Any,
) -> Path:
    """Adapt the dynamics model alone to new data (D-MPC, Zhou et al. 2025, section 4.3).

    Proposal, objective and normaliser stay those of `model`. Arguments as in `train`.

    Returns:
        Path of the new model file, ``out/model.safetensors``.
    """
    out, ids = Path(out), [dataset] if isinstance(dataset, str) else list(dataset)
    _refuse_existing(out, resume)
    parent = load_model(model)
    store = load_episodes(
        ids, control_period_s=parent.spec.environment.control_period_s, progress=progress
    )
    _check_sizes(store, parent, ids)
    with processes() as group:
        if resume and (out / SETTINGS).exists():
            training, spec = _stored(out)
        else:
            training = TrainingSettings(
                steps={"dynamics": steps}, learning_rate=learning_rate, **settings
            )
            details = {"recipe": "finetune", "parent": parent.sha256}
            spec = dataclasses.replace(
                parent.spec,
                provenance={
                    **_provenance(ids, training, details),
                    "parent_provenance": parent.spec.provenance,
                },
            )
        train_windows, validation = _windows(store, spec, training)
        trainer = Trainer(
            out,
            spec,
            parent.normalizer,
            train_windows,
            validation,
            training,
            initial=_network_tensors(parent),
            device=device,
            processes=group,
            progress=progress,
            callbacks=callbacks,
        )
        return trainer.resume() if resume else trainer.fit()


def _refuse_existing(out: Path, resume: bool) -> None:
    """Before anything slow: a finished or half-finished run is never written over."""
    if resume and not (out / SETTINGS).exists():
        raise FileNotFoundError(f"{out} holds no run to resume: {SETTINGS} is missing")
    if not resume and ((out / CHECKPOINT).exists() or (out / MODEL).exists()):
        raise FileExistsError(f"{out} already holds a run: resume it, or choose another folder")


def _steps(steps: int | dict[str, int] | None) -> dict[str, int]:
    if steps is None:
        return dict(DEFAULT_STEPS)
    return dict.fromkeys(STAGES, steps) if isinstance(steps, int) else {**DEFAULT_STEPS, **steps}


def _stored(out: Path) -> tuple[TrainingSettings, ModelSpec]:
    settings = TrainingSettings.from_json((out / SETTINGS).read_text(encoding="utf-8"))
    return settings, ModelSpec.from_json((out / SPEC).read_text(encoding="utf-8"))


def _windows(
    store: EpisodeStore, spec: ModelSpec, settings: TrainingSettings
) -> tuple[Windows, Windows]:
    train_episodes, held_out = split_episodes(store, settings.validation_fraction, settings.seed)
    if len(train_episodes) == 0:
        # A single episode cannot be split: learn from it and validate on it.
        train_episodes = held_out
    windows = [
        Windows(
            store,
            horizon=spec.horizon,
            history=spec.history,
            discount=spec.discount,
            termination_penalty=spec.termination_penalty,
            episodes=episodes,
        )
        for episodes in (train_episodes, held_out if len(held_out) else train_episodes)
    ]
    return windows[0], windows[1]


def _provenance(
    ids: list[str], settings: TrainingSettings, details: dict[str, Any]
) -> dict[str, Any]:
    from dmpc_fast import __version__

    return {
        **details,
        "datasets": ids,
        "package_version": __version__,
        "torch_version": str(torch.__version__),
        "training": dataclasses.asdict(settings),
    }


def _check_sizes(store: EpisodeStore, parent: Model, ids: list[str]) -> None:
    given = store.observations.shape[1], store.actions.shape[1]
    expected = parent.spec.state_size, parent.spec.action_size
    if given != expected:
        raise ValueError(
            f"datasets {ids} have observation and action sizes {given}, the model has {expected}"
        )
    period, own = store.environment.control_period_s, parent.spec.environment.control_period_s
    if not math.isclose(period, own, rel_tol=1e-6):
        raise ValueError(f"datasets {ids} have a control period of {period} s, the model {own} s")


def _network_tensors(model: Model) -> dict[str, torch.Tensor]:
    return {
        name: torch.from_numpy(array.copy())
        for name, array in model.tensors.items()
        if not name.startswith("normalizer.")
    }
