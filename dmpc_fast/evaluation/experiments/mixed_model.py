"""A model of two: the proposal of one file, everything else of another."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.model_file import load_model, save_model
from dmpc_fast.spec import ModelSpec


def with_proposal(base: Path, other: Path, folder: Path) -> Path:
    """The file in `folder` that is `base` with the proposal of `other`, written if it is not there.

    Both must be of one robot, horizon and history, and normalise states and actions alike. Raises
    ValueError naming what differs.
    """
    own, donor = load_model(base), load_model(other)
    for name in ("state_size", "action_size", "horizon", "history", "context", "environment"):
        ours, theirs = getattr(own.spec, name), getattr(donor.spec, name)
        if ours != theirs:
            raise ValueError(f"{other} must have the {name} of {base}, {ours}, got {theirs}")
    for name in ("state", "action"):
        for part in ("mean", "scale"):
            key = f"normalizer.{name}.{part}"
            if not np.array_equal(own.tensors[key], donor.tensors[key]):
                raise ValueError(f"{other} must have the {key} of {base}: it has other data's")
    digest = hashlib.sha256((own.sha256 + donor.sha256).encode()).hexdigest()
    path = folder / f"{base.stem}-{digest[:8]}.safetensors"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        spec = dataclasses.replace(
            own.spec,
            stages={**own.spec.stages, "proposal": donor.spec.stages["proposal"]},
            provenance={
                **own.spec.provenance,
                "distillation": _distillation(own.spec, donor.spec),
                "proposal_of": donor.sha256,
            },
        )
        kept = {n: t for n, t in own.tensors.items() if not n.startswith("proposal.")}
        taken = {n: t for n, t in donor.tensors.items() if n.startswith("proposal.")}
        save_model(path, spec, {**kept, **taken})
    return path


def _distillation(own: ModelSpec, donor: ModelSpec) -> dict[str, Any]:
    """How the stages were distilled, of the proposal what its own file says: it decides whether the
    proposal can be re-noised."""
    made = {**own.provenance.get("distillation", {})}
    made.pop("proposal", None)
    theirs = donor.provenance.get("distillation", {})
    return {**made, **({"proposal": theirs["proposal"]} if "proposal" in theirs else {})}
