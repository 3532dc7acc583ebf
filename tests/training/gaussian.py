"""A network whose flow is known: of data that are normal around what the condition says."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dmpc_fast import noise


class GaussianNetwork(nn.Module):
    """Velocity of x_0 ~ N(m, scale^2), m the first entry of the condition, in every feature.

    Along the flow x_t = m cos t + z sqrt(scale^2 cos^2 t + sin^2 t) with one z, so that pure noise
    eps ends at m + scale eps. Without a target angle it is a teacher; with one, its velocity is the
    one whose rotation from t lands on the flow's point at s.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def _deviation(self, angle: Tensor) -> Tensor:
        return (self.scale**2 * angle.cos() ** 2 + angle.sin() ** 2).sqrt()

    def point(self, eps: Tensor, condition: Tensor, angle: Tensor) -> Tensor:
        angle = angle[:, None, None]
        return condition[:, :1, None] * angle.cos() + self._deviation(angle) * eps

    def forward(
        self, noisy: Tensor, clean: Tensor | None, condition: Tensor, angle: Tensor,
        target: Tensor | None = None, valid: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        t, mean = angle[:, None, None], condition[:, :1, None]
        z = (noisy - mean * t.cos()) / self._deviation(t)
        slope = (1 - self.scale**2) * t.sin() * t.cos() / self._deviation(t)
        instant = slope * z - mean * t.sin()
        if target is None:
            return instant
        turn = t - target[:, None, None]
        landing = self.point(z, condition, target)
        jump = (turn.cos() * noisy - landing) / turn.sin()
        return torch.where(turn.abs() < 1e-6, instant, jump)


def gaussian_batch(
    generator: torch.Generator, count: int, horizon: int, size: int, scale: float
) -> dict[str, Tensor]:
    """clean, given, condition, valid and eps of `count` examples for the network above."""
    condition = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    shape = (count, horizon, size)
    spread = torch.randn(shape, generator=generator, dtype=torch.float64)
    return {
        "clean": condition[:, :1, None] + scale * spread,
        "given": torch.zeros(count, horizon, 0, dtype=torch.float64),
        "condition": condition,
        "valid": torch.rand(count, horizon, generator=generator) < 0.8,
        "eps": torch.randn(shape, generator=generator, dtype=torch.float64),
    }


def rotation(noisy: Tensor, velocity: Tensor, angle: Tensor, target: Tensor) -> Tensor:
    return noise.rotate(noisy, velocity, angle[:, None, None], target[:, None, None])
