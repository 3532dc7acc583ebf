"""The teacher's deterministic way from pure noise to a sample: what a student learns to jump.

Two rules. ``ddim`` is the sampler that teachers run with: equal steps of the angle, in each of which
the denoised estimate D = cos(t) x - sin(t) v is held still. In few steps it gives samples that differ
less than the flow's own do. ``multistep`` comes near the flow itself: since (x / sin t)' = -D / sin(t)^2
along dx/dt = v, a step is known in closed form also where D is the straight line through its last two
values (as in DPM-Solver++ 2M, Lu et al. 2022, over another variable), and angles lie closer together
towards 0. On the shipped models its 6 evaluations are nearer to the limit than 16 DDIM steps.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from dmpc_fast import noise
from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.noise import MAX_ANGLE


def solver_angles(rule: str, steps: int) -> tuple[float, ...]:
    """steps + 1 angles from pi/2 to 0, evenly for ``ddim``, else quadratically closer towards 0."""
    power = 1 if rule == "ddim" else 2
    return tuple(MAX_ANGLE * (1 - i / steps) ** power for i in range(steps + 1))


def way(
    network: TrajectoryTransformer,
    eps: Tensor,
    given: Tensor,
    condition: Tensor,
    valid: Tensor | None,
    rule: str,
    steps: int,
) -> Tensor:
    """All points of the way at `solver_angles`: (steps + 1, N, F, X).

    eps (N, F, X), given (N, F, U), condition (N, C), valid (N, F) or None. The network is asked as
    a teacher, without a target angle. rule: ``ddim`` or ``multistep``.
    """
    angles = solver_angles(rule, steps)
    points, last = [eps], None
    for index, (t, s) in enumerate(pairwise(angles)):
        x = points[-1]
        angle = torch.full_like(eps[:, 0, 0], t)
        velocity = network(x, given, condition, angle, None, valid).float()
        estimate = held = noise.denoise(x, velocity, angle[:, None, None])
        if rule != "ddim" and last is not None:
            held = estimate + (estimate - last) * _lead(angles[index - 1], t, s)
        last = estimate
        points.append(_advance(x, held, t, s))
    return torch.stack(points)


def _advance(x: Tensor, held: Tensor, t: float, s: float) -> Tensor:
    """From angle t to s with the denoised estimate `held`: cos(s) D + sin(s) (x - cos(t) D) / sin(t).

    That is a rotation with the velocity of which `held` is the estimate.
    """
    ratio = math.sin(s) / math.sin(t)
    return ratio * x + (math.cos(s) - ratio * math.cos(t)) * held


def _lead(before: float, t: float, s: float) -> float:
    """How far beyond its value at t the straight line through D(before), D(t) stands, on average
    from t to s, in units of D(t) - D(before)."""
    if s <= 0:
        return t / (before - t)  # the weight 1 / sin^2 lies at the end
    mean = (_moment(t) - _moment(s)) / (1 / math.tan(s) - 1 / math.tan(t))
    return (mean - t) / (t - before)


def _moment(angle: float) -> float:
    """An antiderivative of angle / sin(angle)^2."""
    return math.log(math.sin(angle)) - angle / math.tan(angle)
