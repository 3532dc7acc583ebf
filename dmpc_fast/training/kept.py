"""Stages that a training run takes over from a finished model, to train the others beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from dmpc_fast.data.windows import Windows
from dmpc_fast.model_context import with_unread_context
from dmpc_fast.model_file import Model
from dmpc_fast.normalizer import Normalizer
from dmpc_fast.spec import STAGES, ModelSpec
from dmpc_fast.training.run import network_tensors

#: What stages of one model have in common.
SHARED = ("state_size", "action_size", "horizon", "history")


def kept_stages(only: Sequence[str] | None) -> tuple[str, ...]:
    """The stages that are not trained. Raises ValueError for an unknown stage or none to train."""
    chosen = tuple(STAGES if only is None else only)
    if not chosen or not set(chosen) <= set(STAGES):
        raise ValueError(f"only must name stages of {STAGES}, got {only!r}")
    return tuple(stage for stage in STAGES if stage not in chosen)


def with_kept(spec: ModelSpec, base: Model, kept: Sequence[str]) -> ModelSpec:
    """`spec` with the kept stages as `base` has them. Raises ValueError where these do not fit."""
    for name in SHARED:
        wanted, own = getattr(spec, name), getattr(base.spec, name)
        if wanted != own:
            raise ValueError(f"the model to take stages from has {name} {own}, not {wanted}")
    if base.spec.context not in (0, spec.context):
        raise ValueError(
            f"the model to take stages from has context {base.spec.context}, not {spec.context}"
        )
    return dataclasses.replace(
        spec,
        stages={**spec.stages, **{stage: base.spec.stages[stage] for stage in kept}},
        provenance={
            **spec.provenance,
            "kept": list(kept),
            "parent": base.sha256,
            "parent_provenance": base.spec.provenance,
        },
    )


def kept_tensors(base: Model, kept: Sequence[str], context: int) -> dict[str, Tensor]:
    """Weights of the kept stages alone: a policy, for one, belongs to the planner that they left.

    context: size of the new model's, which stages of a model without one do not hear.
    """
    found = {
        name: tensor
        for name, tensor in network_tensors(base).items()
        if name.partition(".")[0] in kept
    }
    if context == base.spec.context:
        return found
    widened = with_unread_context(found, context)
    return {name: torch.as_tensor(tensor) for name, tensor in widened.items()}


def kept_normalizer(base: Model, windows: Windows) -> Normalizer:
    """States and actions as the kept stages know them; rewards and values, which the objective alone
    knows, as the data and the present discount have them."""
    own = windows.normalizer()
    return dataclasses.replace(own, state=base.normalizer.state, action=base.normalizer.action)
