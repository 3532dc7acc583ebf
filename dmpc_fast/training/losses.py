"""Training losses: pure functions of network outputs and targets.

Every loss is a sum over the examples of one process divided by the size of the whole batch, so that
gradients of several processes add up to the gradient of one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dmpc_fast import noise
from dmpc_fast.models.network import TrajectoryTransformer


def velocity_loss(
    network: TrajectoryTransformer,
    clean: Tensor,
    given: Tensor,
    condition: Tensor,
    valid: Tensor,
    angle: Tensor,
    eps: Tensor,
    batch_size: int,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean squared error of the velocity over valid steps (Salimans & Ho 2022).

    clean (B, F, X) is what is denoised, given (B, F, U) what is not, valid (B, F) bool, angle (B,)
    in radians, eps like clean. weights (F,): of the steps; None where all weigh 1.
    """
    t = angle[:, None, None]
    noisy = noise.diffuse(clean, eps, t)
    predicted = network(noisy, given, condition, angle, None, valid)
    error = predicted.float() - noise.velocity(clean, eps, t)
    steps, features = clean.shape[1:]
    counted = valid if weights is None else valid * weights
    return (error.square() * counted[..., None]).sum() / (batch_size * steps * features)


def objective_loss(
    outputs: Tensor,
    rewards: Tensor,
    continues: Tensor,
    value: Tensor,
    valid: Tensor,
    value_valid: Tensor,
    batch_size: int,
    expectile: float = 0.5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses of reward, continuation and value (an expectile of its target; 0.5: its mean).

    outputs (B, F, 3): normalised reward, logit of going on, normalised value (read at the last
    step). rewards, continues (B, F), value (B,) are targets in normalised units; valid (B, F) and
    value_valid (B,) say where they are known.
    """
    outputs = outputs.float()
    scale = 1.0 / (batch_size * outputs.shape[1])
    reward = ((outputs[..., 0] - rewards).square() * valid).sum() * scale
    bce = functional.binary_cross_entropy_with_logits(outputs[..., 1], continues, reduction="none")
    going_on = (bce * valid).sum() * scale
    error = outputs[:, -1, 2] - value
    side = torch.where(error < 0, 2 * expectile, 2 * (1 - expectile))
    return reward, going_on, (side * error.square() * value_valid).sum() / batch_size


def masked_distance(
    found: Tensor, wanted: Tensor, valid: Tensor, batch_size: int, huber: float
) -> Tensor:
    """Distance of two trajectories (B, F, X) over valid (B, F) steps, a mean over features.

    huber 0: the mean square. Else per example sqrt(|d|^2 / n + huber^2) - huber with the dimension
    n (pseudo-Huber, Song & Dhariwal 2023), which outliers do not rule.
    """
    square = (found - wanted).square() * valid[..., None]
    features = found.shape[1] * found.shape[2]
    if not huber:
        return square.sum() / (batch_size * features)
    each = square.sum((1, 2)) / features
    return ((each + huber * huber).sqrt() - huber).sum() / batch_size
