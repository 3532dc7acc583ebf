"""The context of a model's condition: fixing it for good, and making room for one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from dmpc_fast.model_file import Model
from dmpc_fast.spec import ModelSpec, StageSpec

#: Weights that read the condition, by their names in a network. The context is its last columns.
CONDITION_WEIGHTS = ("condition.history.weight", "history.weight")


def with_fixed_context(
    model: Model, context: Sequence[float]
) -> tuple[ModelSpec, dict[str, np.ndarray]]:
    """Description and tensors of a model that is always in `context` and takes none.

    The context's share of every network's first layer is the same in every plan then, so it joins a
    bias: no backend needs to know, and the new model plans what `model` plans in that context, to
    rounding.

    context: (size,), as `Planner.act` takes it. Raises ValueError where it is not of the model's size
    or not finite, and where a policy reads it, too.
    """
    spec, values = model.spec, np.asarray(context, np.float64)
    if not spec.context:
        raise ValueError(f"the model takes no context, got {list(context)}")
    if values.shape != (spec.context,) or not np.isfinite(values).all():
        raise ValueError(f"context must be {spec.context} finite numbers, got {list(context)}")
    if spec.policy is not None:
        raise ValueError("the model's policy reads the context, too, which cannot be fixed")
    tensors = dict(model.tensors)
    stages: dict[str, StageSpec] = {}
    for stage, sizes in spec.stages.items():
        for member in range(sizes.members):
            name = f"{stage}.{member}"
            for weight in CONDITION_WEIGHTS:
                found = tensors.get(f"{name}.{weight}")
                if found is None:
                    continue
                bias = f"{name}." + (
                    "condition.history.bias" if weight.startswith("condition.") else "positions"
                )
                constant = found[:, -spec.context :].astype(np.float64) @ values
                tensors[bias] = (tensors[bias] + constant).astype(np.float32)
                tensors[f"{name}.{weight}"] = np.ascontiguousarray(found[:, : -spec.context])
        # What joined Fourier positions is no longer of their form.
        stages[stage] = (
            dataclasses.replace(sizes, positions="learned") if sizes.history_tokens else sizes
        )
    provenance = {
        "recipe": "fixed context",
        "fixed_context": values.tolist(),
        "parent": model.sha256,
        **{key: value for key, value in spec.provenance.items() if key not in ("recipe", "parent")},
    }
    return (
        dataclasses.replace(spec, context=0, stages=stages, provenance=provenance),
        tensors,
    )


def with_unread_context(tensors: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Tensors of networks without a context, for a model with one of `size` that they do not hear."""
    widened = dict(tensors)
    for name in _readers(tensors):
        weight = tensors[name]
        widened[name] = np.concatenate(
            [np.asarray(weight), np.zeros((weight.shape[0], size), np.float32)], axis=1
        )
    return widened


def reads_context(tensors: Mapping[str, Any], size: int) -> bool:
    """Whether a stage, by the names of its members' tensors, hears a context of `size` at all."""
    return size > 0 and any(
        bool((tensor[:, -size:] != 0).any())
        for name, tensor in tensors.items()
        if name.partition(".")[2] in CONDITION_WEIGHTS
    )


def _readers(tensors: Iterable[str]) -> list[str]:
    return [
        name for name in tensors if name.partition(".")[2].partition(".")[2] in CONDITION_WEIGHTS
    ]
