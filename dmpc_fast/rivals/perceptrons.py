"""Plain perceptrons: deterministic, or the mean and deviation of a Gaussian."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

#: Bounds of a Gaussian's log deviation, in normalised units.
LOG_DEVIATIONS = (-5.0, 2.0)
WARMUP = 0.05


class Perceptron(nn.Module):
    """Three hidden layers of `width`: (B, inputs) -> (B, outputs)."""

    def __init__(self, inputs: int, outputs: int, width: int) -> None:
        super().__init__()
        sizes = (inputs, width, width, width)
        hidden: list[nn.Module] = []
        for before, after in itertools.pairwise(sizes):
            hidden += [nn.Linear(before, after), nn.SiLU()]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, outputs))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result


def width_for(parameters: int, inputs: int, outputs: int) -> int:
    """The width at which a `Perceptron` has about so many parameters."""
    # 2 w^2 + (inputs + outputs + 3) w + outputs = parameters
    linear = inputs + outputs + 3
    root = math.sqrt(linear**2 + 8 * max(0, parameters - outputs))
    return max(1, round((root - linear) / 4))


def gaussian(outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log deviation (B, D) from a perceptron's outputs (B, 2 D)."""
    mean, log_deviation = outputs.chunk(2, -1)
    return mean, log_deviation.clamp(*LOG_DEVIATIONS)


def likelihood_loss(outputs: Tensor, target: Tensor) -> Tensor:
    """Negative log likelihood of `target` (B, D), but for a constant."""
    mean, log_deviation = gaussian(outputs)
    return (0.5 * ((target - mean) * torch.exp(-log_deviation)) ** 2 + log_deviation).mean()


def fit(
    networks: Sequence[nn.Module],
    loss: Callable[[nn.Module, int, int], Tensor],
    *,
    steps: int,
    learning_rate: float = 1e-3,
) -> None:
    """Adam with warm-up and a cosine to 0 for each network: loss(network, member, step)."""
    for member, network in enumerate(networks):
        optimiser = torch.optim.Adam(network.parameters())
        warm = max(1, round(WARMUP * steps))
        for step in range(steps):
            rate = min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimiser.param_groups[0]["lr"] = learning_rate * rate
            value = loss(network, member, step)
            optimiser.zero_grad()
            value.backward()
            optimiser.step()
        network.eval()
