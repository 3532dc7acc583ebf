"""The reactive policy: the planner's decisions amortised in a multilayer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dmpc_fast.spec import ModelSpec


class PolicyNetwork(nn.Module):
    """`spec.policy` hidden layers from the condition to the next action, both normalised.

    Raises ValueError where the spec has no policy.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        if spec.policy is None:
            raise ValueError("the model has no policy")
        sizes = [spec.condition_size, *[spec.policy.width] * spec.policy.layers]
        self.hidden = nn.ModuleList(
            nn.Linear(inputs, outputs) for inputs, outputs in itertools.pairwise(sizes)
        )
        self.out = nn.Linear(sizes[-1], spec.action_size)

    def forward(self, condition: Tensor) -> Tensor:
        """Actions (B, A) for conditions (B, `spec.condition_size`)."""
        for layer in self.hidden:
            condition = functional.gelu(layer(condition), approximate="tanh")
        action: Tensor = self.out(condition)
        return action


def load_policy(
    spec: ModelSpec,
    tensors: Mapping[str, np.ndarray],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> PolicyNetwork | None:
    """The policy among a file's tensors, without gradients; None where the model has none."""
    if spec.policy is None:
        return None
    with torch.device("meta"):
        network = PolicyNetwork(spec)
    weights = {
        name: torch.tensor(tensors[f"policy.{name}"], dtype=dtype, device=device)
        for name in spec.policy_shapes()
    }
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval().requires_grad_(False)
