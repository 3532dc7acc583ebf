"""What runs of training, fine-tuning and distillation share: folders, windows, provenance, checks."""

from __future__ import annotations

import dataclasses
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmpc_fast.data.minari import EpisodeStore
from dmpc_fast.data.windows import Windows, split_episodes
from dmpc_fast.model_file import Model
from dmpc_fast.spec import ModelSpec
from dmpc_fast.training.loop import CHECKPOINT, MODEL, SETTINGS, SPEC
from dmpc_fast.training.settings import TrainingSettings


def refuse_existing(out: Path, resume: bool) -> None:
    """Before anything slow: a finished or half-finished run is never written over."""
    if resume and not (out / SETTINGS).exists():
        raise FileNotFoundError(f"{out} holds no run to resume: {SETTINGS} is missing")
    if not resume and ((out / CHECKPOINT).exists() or (out / MODEL).exists()):
        raise FileExistsError(f"{out} already holds a run: resume it, or choose another folder")


def stored(out: Path) -> tuple[TrainingSettings, ModelSpec]:
    """Settings and description that a run's folder was made with."""
    settings = TrainingSettings.from_json((out / SETTINGS).read_text(encoding="utf-8"))
    return settings, ModelSpec.from_json((out / SPEC).read_text(encoding="utf-8"))


def held_out_split(
    store: EpisodeStore, spec: ModelSpec, settings: TrainingSettings
) -> tuple[Windows, Windows]:
    """Windows of the episodes to learn from and of those held out.

    A single episode cannot be split: it is learned from and validated on, with a warning.
    """
    if store.num_episodes == 1:
        warnings.warn(
            f"datasets {list(store.dataset_ids)} hold one episode, which is validated on, too: "
            "validation losses will not tell when it is learned by heart",
            stacklevel=3,
        )
        train_episodes = held_out = np.zeros(1, np.int64)
    else:
        train_episodes, held_out = split_episodes(
            store, settings.validation_fraction, settings.seed
        )
    windows = [
        Windows(
            store,
            horizon=spec.horizon,
            history=spec.history,
            discount=spec.discount,
            termination_penalty=spec.termination_penalty,
            episodes=episodes,
        )
        for episodes in (train_episodes, held_out)
    ]
    return windows[0], windows[1]


def provenance(
    ids: list[str], settings: TrainingSettings, details: dict[str, Any]
) -> dict[str, Any]:
    """What a model file says of its making: `details`, data, settings and versions."""
    from dmpc_fast import __version__

    return {
        **details,
        "datasets": ids,
        "package_version": __version__,
        "torch_version": str(torch.__version__),
        "training": dataclasses.asdict(settings),
    }


def inherited(spec: ModelSpec, names: tuple[str, ...], stage: str | None = None) -> dict[str, Any]:
    """Those of the settings `names` that the training of `spec` is known to have had.

    stage: take those of the latest training that changed this stage, which may be that of a parent: a
    student whose proposal alone was distilled has its teacher's dynamics.
    """
    made: Any = spec.provenance
    while isinstance(made, dict):
        training = made.get("training")
        if isinstance(training, dict) and (stage is None or stage in training.get("steps", {})):
            return {name: training[name] for name in names if name in training}
        made = made.get("parent_provenance") if stage is not None else None
    return {}


def check_sizes(store: EpisodeStore, parent: Model, ids: list[str]) -> None:
    """Raises ValueError where the data are not of the robot that `parent` is for."""
    given = store.observations.shape[1], store.actions.shape[1]
    expected = parent.spec.state_size, parent.spec.action_size
    if given != expected:
        raise ValueError(
            f"datasets {ids} have observation and action sizes {given}, the model has {expected}"
        )
    period, own = store.environment.control_period_s, parent.spec.environment.control_period_s
    if not math.isclose(period, own, rel_tol=1e-6):
        raise ValueError(f"datasets {ids} have a control period of {period} s, the model {own} s")


class StalePolicyWarning(UserWarning):
    """A new model's policy does what the planner of the model before did."""


def warn_of_policy(model: Model) -> None:
    """Say so where a new model takes over a policy, which does what the old one's planner did."""
    if model.spec.policy is not None:
        warnings.warn(
            "the model's policy is kept as it is and still does what the planner of the model before "
            "did; make it anew with `dmpc-fast distill --policy`",
            StalePolicyWarning,
            stacklevel=3,
        )


def network_tensors(model: Model) -> dict[str, torch.Tensor]:
    """Copies of the networks' weights, by their names in the file."""
    return {
        name: torch.from_numpy(array.copy())
        for name, array in model.tensors.items()
        if not name.startswith("normalizer.")
    }
