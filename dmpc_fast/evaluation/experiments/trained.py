"""Models that experiments train: each is made once for what it is made of, and found again by it."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dmpc_fast.evaluation.experiments.arms import Common, write_json
from dmpc_fast.model_file import Model, load_model

NOTE = "trained.json"
#: Of a run's settings, those that decide nothing about its weights but their rounding: what is fast
#: where a model was made is up to thirty times slower where another is made like it.
INCIDENTAL = (
    "steps",
    "threads",
    "precision",
    "kernels",
    "compile",
    "checkpoint_every",
    "validate_every",
    "log_every",
)


@dataclass(frozen=True)
class Trained:
    """A model file, and the seconds its training took; None where that was done in parts."""

    path: Path
    seconds: float | None


def trained(
    common: Common, recipe: str, *inputs: Path | str | Sequence[str], **options: Any
) -> Trained:
    """The model that `common.trainers[recipe](*inputs, **options)` makes, made if it is not there.

    Its folder is named by all that decides its weights: the recipe, the contents of model files
    among the inputs, the names of datasets, and the options. A run that was killed goes on where it
    was. `common.training` goes before `options`. Raises ValueError
    where there is no such trainer.
    """
    if recipe not in common.trainers:
        raise ValueError(f"trainers must hold {recipe!r}, got {sorted(common.trainers)}")
    options = {**options, **common.training}
    content = {"recipe": recipe, "inputs": [_content(given) for given in inputs], **options}
    folder = named_by_content(common.out / "models", recipe, content)
    note = folder / NOTE
    if not note.exists():
        begun = (folder / "settings.json").exists()
        before = time.perf_counter()
        common.trainers[recipe](
            *inputs,
            out=folder,
            resume=begun,
            progress=common.progress,
            **options,
            **({} if common.threads is None else {"threads": common.threads}),
        )
        seconds = None if begun else time.perf_counter() - before
        write_json(note, {"content": content, "seconds": seconds})
    found = json.loads(note.read_text(encoding="utf-8"))
    return Trained(folder / "model.safetensors", found["seconds"])


def named_by_content(folder: Path, label: str, content: dict[str, Any]) -> Path:
    """A path in `folder` that another content, as JSON, would not have."""
    text = json.dumps(content, sort_keys=True)
    return folder / f"{label}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


#: How models were made whose provenance is older than these settings; `train` has other defaults now.
FORMER: dict[str, Any] = {"muon": (), "dynamics_angles": "all", "horizon_weighting": 0.0}


def own_training(model: Model) -> dict[str, Any]:
    """Settings by which a model learned from data; a student's are those of its teacher."""
    made = model.spec.provenance
    while made.get("recipe") == "distill":
        made = made["parent_provenance"]
    training: dict[str, Any] = made["training"]
    return training


def like(model: Model, *, horizon: int) -> dict[str, Any]:
    """Options by which `train` makes a model as `model` was made, but for its horizon and steps.

    A patch that does not divide the horizon becomes their greatest common divisor. Of a student,
    options that make its teacher; what was distilled is sampled in as many steps as `train` says.
    """
    spec, distilled = model.spec, model.spec.provenance.get("distillation", {})
    sizes = {
        name: {
            "layers": stage.layers,
            "width": stage.width,
            "heads": stage.heads,
            "head_size": stage.head_size,
            "mlp": stage.mlp,
            "patch": math.gcd(stage.patch, horizon),
            "positions": stage.positions,
            "history_tokens": stage.history_tokens,
        }
        for name, stage in spec.stages.items()
    }
    recommended = dict(spec.recommended)
    if "action_chunk" in recommended:
        recommended["action_chunk"] = min(recommended["action_chunk"], horizon)
    training = own_training(model)
    return {
        "horizon": horizon,
        "history": spec.history,
        "discount": spec.discount,
        "termination_penalty": spec.termination_penalty,
        "stage_options": sizes,
        "objective_members": spec.stages["objective"].members,
        "recommended": recommended,
        **{
            f"{name}_steps": stage.sampler.steps
            for name, stage in spec.stages.items()
            if stage.sampler is not None and name not in distilled
        },
        **FORMER,
        **{name: value for name, value in training.items() if name not in INCIDENTAL},
    }


def _content(given: Path | str | Sequence[str]) -> Any:
    if isinstance(given, Path):
        return load_model(given).sha256
    return given if isinstance(given, str) else list(given)
