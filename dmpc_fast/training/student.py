"""The student's loss: one jump against a way of many steps, plus denoising (design: angles t, s).

The student's jump from angle t to s is the rotation by t - s with its velocity v(x, t, s). At s = 0
it is the consistency function cos(t) x - sin(t) v; at s = t the velocity is the teacher's own, which
the denoising term keeps (consistency trajectory models, Kim et al. 2024, in the trigonometric form
of Lu & Song 2024). The two do not compete: s tells the network which of them is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from dmpc_fast import noise
from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.noise import MAX_ANGLE
from dmpc_fast.training.batches import Batch
from dmpc_fast.training.distillation import Distillation
from dmpc_fast.training.distributed import Processes
from dmpc_fast.training.losses import masked_distance
from dmpc_fast.training.solver import solver_angles, way
from dmpc_fast.training.student_gates import GateSums, gate_figures


class Jump(NamedTuple):
    """Where a jump starts and where it must end: noisy and end (B, F, X), angle and target (B,)."""

    noisy: Tensor
    angle: Tensor
    target: Tensor
    end: Tensor


class StudentLoss:
    """Distillation of one stage.

    Args:
        settings: which loss.
        steps: optimiser steps of the stage, over which the grid of angles gets finer.
        teacher: its network, frozen; needed where the settings say so, and for the gates.
    """

    def __init__(
        self, settings: Distillation, steps: int, teacher: TrajectoryTransformer | None
    ) -> None:
        if settings.teacher and teacher is None:
            raise ValueError("distillation with a teacher needs the teacher's network")
        self._settings, self._steps = settings, steps
        self._teacher, self._reference = teacher if settings.teacher else None, teacher
        self._expected: list[tuple[Tensor, Tensor]] | None = None

    def __call__(
        self, network: TrajectoryTransformer, batch: Batch, batch_size: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        settings = self._settings
        with torch.no_grad():
            jump = self._regression(batch) if self._whole else self._consistency(network, batch)
        t, s = jump.angle, jump.target
        shared = batch.given, batch.condition, batch.valid
        weight = settings.denoising_weight
        if not weight:
            velocity = network(jump.noisy, shared[0], shared[1], t, s, shared[2])
            landed = noise.rotate(jump.noisy, velocity.float(), *_broadcast(t, s))
            return masked_distance(landed, jump.end, batch.valid, batch_size, settings.huber), {}
        # One pass over jumps and denoising together: twice the batch, half the calls.
        noisy = noise.diffuse(batch.clean, batch.eps, batch.angle[:, None, None])
        velocity = network(
            torch.cat([jump.noisy, noisy]),
            *(torch.cat([x, x]) for x in shared[:2]),
            torch.cat([t, batch.angle]),
            torch.cat([s, batch.angle]),
            torch.cat([shared[2], shared[2]]),
        )
        jumped, denoised = velocity.float().chunk(2)
        landed = noise.rotate(jump.noisy, jumped, *_broadcast(t, s))
        distance = masked_distance(landed, jump.end, batch.valid, batch_size, settings.huber)
        truth = noise.velocity(batch.clean, batch.eps, batch.angle[:, None, None])
        denoising = masked_distance(denoised, truth, batch.valid, batch_size, 0.0)
        return distance + weight * denoising, {"jump": distance, "denoising": denoising}

    @property
    def _whole(self) -> bool:
        return self._settings.method == "regression"

    def _regression(self, batch: Batch) -> Jump:
        """A jump between two points of the teacher's way from pure noise, or from noise to data."""
        settings, count = self._settings, len(batch.angle)
        if self._teacher is None:
            start = torch.full_like(batch.angle, MAX_ANGLE)
            return Jump(batch.eps, start, torch.zeros_like(start), batch.clean)
        points = way(
            self._teacher, settings.temperature * batch.eps, batch.given, batch.condition,
            batch.valid, settings.solver, settings.solver_steps,
        )  # fmt: skip
        points[0] = batch.eps
        draws, total = batch.uniform, settings.solver_steps
        first = torch.where(draws[:, 0] < settings.pure_noise, 0.0, (draws[:, 1] * total).floor())
        # Uniform over the points that follow the start, but for those that go all the way.
        share = (draws[:, 2] / max(settings.intermediate, 1e-6)).clamp(max=1 - 1e-6)
        some = first + 1 + (share * (total - first)).floor()
        last = torch.where(draws[:, 2] < settings.intermediate, some, float(total))
        rows = torch.arange(count, device=first.device)
        angles = torch.tensor(solver_angles(settings.solver, total), device=first.device)
        start, end = first.long(), last.long()
        return Jump(points[start, rows], angles[start], angles[end], points[end, rows])

    def _consistency(self, network: TrajectoryTransformer, batch: Batch) -> Jump:
        """One cell of the grid along the trajectory, then the student's own jump from there."""
        settings, draws = self._settings, batch.uniform
        cell = MAX_ANGLE / self._cells(batch.step)
        t = ((batch.angle / cell).floor() + 1) * cell
        t = torch.where(draws[:, 0] < settings.pure_noise, MAX_ANGLE, t.clamp(max=MAX_ANGLE))
        near = (t - cell).clamp(min=0.0)
        s = torch.where(draws[:, 1] < settings.intermediate, draws[:, 2] * near, 0.0)
        noisy = noise.diffuse(batch.clean, batch.eps, t[:, None, None])
        shared = batch.given, batch.condition
        if self._teacher is None:
            velocity = noise.velocity(batch.clean, batch.eps, t[:, None, None])
        else:
            velocity = self._teacher(noisy, *shared, t, None, batch.valid).float()
        nearer = noise.rotate(noisy, velocity, *_broadcast(t, near))
        own = network(nearer, *shared, near, s, batch.valid).float()
        return Jump(noisy, t, s, noise.rotate(nearer, own, *_broadcast(near, s)))

    def _cells(self, step: Tensor) -> Tensor:
        """Cells of the grid at a step: geometric from the first number to the last, rounded."""
        settings = self._settings
        ratio = settings.solver_steps / settings.first_cells
        # The last tenth of training sees the finest grid alone.
        progress = (step / (0.9 * self._steps)).clamp(max=1.0)
        return (settings.first_cells * ratio**progress).round()

    def gates(
        self, network: TrajectoryTransformer, batches: list[Batch], processes: Processes
    ) -> dict[str, float]:
        """One jump from pure noise against the teacher's way from the same noise."""
        if self._reference is None:
            return {}
        if self._expected is None:
            # The same batches every time: the teacher's many steps are paid for once.
            solved = partial(_solved, self._reference, self._settings)
            self._expected = [_pair(solved, batch) for batch in batches]
        sums = GateSums.zero(batches[0].clean)
        for batch, expected in zip(batches, self._expected, strict=True):
            sums = sums.add(*_pair(partial(_jumped, network), batch), *expected, batch.valid)
        processes.sum_(list(sums))
        return gate_figures(sums)


def _jumped(network: TrajectoryTransformer, eps: Tensor, batch: Batch) -> Tensor:
    """One jump from pure noise to 0."""
    t = torch.full_like(batch.angle, MAX_ANGLE)
    velocity = network(
        eps, batch.given, batch.condition, t, torch.zeros_like(t), batch.valid
    ).float()
    return noise.denoise(eps, velocity, t[:, None, None])


def _solved(
    network: TrajectoryTransformer, settings: Distillation, eps: Tensor, batch: Batch
) -> Tensor:
    """The end of the teacher's way in as many steps as the student is to learn."""
    shared = batch.given, batch.condition, batch.valid
    start = settings.temperature * eps
    return way(network, start, *shared, settings.solver, settings.solver_steps)[-1]


def _pair(sample: Callable[[Tensor, Batch], Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
    """Samples at the states of a batch, from its noise and from other noise."""
    return sample(batch.eps, batch), sample(batch.eps.roll(1, 0), batch)


def _broadcast(*angles: Tensor) -> tuple[Tensor, ...]:
    return tuple(angle[:, None, None] for angle in angles)
