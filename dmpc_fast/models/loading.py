"""The networks of a trained model, ready to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch

from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.spec import ModelSpec


class Networks(NamedTuple):
    """One proposal, one dynamics model, and the members of the objective's ensemble."""

    proposal: TrajectoryTransformer
    dynamics: TrajectoryTransformer
    objective: tuple[TrajectoryTransformer, ...]


def load_networks(
    spec: ModelSpec,
    tensors: Mapping[str, np.ndarray],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> Networks:
    """Networks with the weights `tensors` (names of `ModelSpec.tensor_shapes`), in `dtype`.

    They are in evaluation mode and need no gradients; the global random state is left alone.
    """

    def load(stage: str, member: int = 0) -> TrajectoryTransformer:
        # On the meta device initialisation draws nothing and costs nothing.
        with torch.device("meta"):
            network = TrajectoryTransformer(spec, stage)
        prefix = f"{stage}.{member}."
        weights = {
            name.removeprefix(prefix): torch.tensor(array, dtype=dtype, device=device)
            for name, array in tensors.items()
            if name.startswith(prefix)
        }
        network.load_state_dict(weights, strict=True, assign=True)
        # What is left on the CPU are the frequencies of noise angles, which stay in double.
        return network.to(device).eval().requires_grad_(False)

    return Networks(
        load("proposal"),
        load("dynamics"),
        tuple(load("objective", member) for member in range(spec.stages["objective"].members)),
    )
