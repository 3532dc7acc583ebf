"""Model files of which one stage alone is of use: rivals of single stages, on any backend."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from torch import Tensor

from dmpc_fast.data.windows import Windows
from dmpc_fast.model_file import Model
from dmpc_fast.normalizer import Normalizer
from dmpc_fast.spec import STAGES, ModelSpec, SamplerSpec, StageSpec
from dmpc_fast.training.loop import Trainer
from dmpc_fast.training.settings import TrainingSettings

SMALLEST = StageSpec(1, 1, 1, 1, 1)


def lone_spec(windows: Windows, stage: str, sizes: StageSpec) -> ModelSpec:
    """A description for `windows` with a stage of `sizes`; the others, which a file must have, are as
    small as can be."""
    store = windows.store
    jump = dataclasses.replace(SMALLEST, sampler=SamplerSpec.uniform(1))
    stages = {"proposal": jump, "dynamics": jump, "objective": SMALLEST}
    return ModelSpec(
        state_size=store.observations.shape[1],
        action_size=store.actions.shape[1],
        horizon=windows.horizon,
        history=windows.history,
        context=0,
        discount=windows.discount,
        termination_penalty=windows.termination_penalty,
        stages={**stages, stage: sizes},
        environment=store.environment,
        provenance={"recipe": f"{stage} alone"},
    )


def train_lone_stage(
    out: Path,
    stage: str,
    spec: ModelSpec,
    normalizer: Normalizer,
    windows: Windows,
    held_out: Windows,
    *,
    steps: int,
    initial: dict[str, Tensor] | None = None,
    progress: bool,
    **settings: Any,
) -> Path:
    """The model file in the folder `out`, trained if it is not there; goes on where it was.

    initial: weights, by their names in the file, to start from; other stages keep theirs, and get
    one step from random ones where there are none. settings: fields of `TrainingSettings`.
    """
    path = out / "model.safetensors"
    if path.exists():
        return path
    others = {} if initial else dict.fromkeys((name for name in STAGES if name != stage), 1)
    training = TrainingSettings(steps={**others, stage: steps}, **settings)
    trainer = Trainer(
        out, spec, normalizer, windows, held_out, training, initial=initial, progress=progress
    )
    return trainer.resume() if (out / "settings.json").exists() else trainer.fit()


def stage_parameters(model: Model, stage: str) -> int:
    """Numbers that the networks of a model's stage hold."""
    return sum(t.size for name, t in model.tensors.items() if name.startswith(f"{stage}."))
