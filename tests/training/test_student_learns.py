"""Students that learn a known flow: the losses lead where they should, from any start."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from gaussian import GaussianNetwork, gaussian_batch
from torch import Tensor, nn

from dmpc_fast import noise
from dmpc_fast.training.batches import EXTRA_DRAWS, Batch
from dmpc_fast.training.distillation import Distillation
from dmpc_fast.training.solver import way
from dmpc_fast.training.student import StudentLoss

SCALE, STEPS, COUNT = 0.5, 600, 128
HALF_TURN = math.pi / 2


class PointwiseNetwork(nn.Module):
    """A velocity for every feature by itself, from its value, the mean, and both angles."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(6, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1)
        )

    def forward(
        self, noisy: Tensor, given: Tensor, condition: Tensor, angle: Tensor,
        target: Tensor, valid: Tensor,
    ) -> Tensor:  # fmt: skip
        t, s = (x[:, None, None].expand_as(noisy) for x in (angle, target))
        mean = condition[:, :1, None].expand_as(noisy)
        parts = [noisy, mean, t.sin(), t.cos(), s.sin(), s.cos()]
        return self.layers(torch.stack(parts, dim=-1))[..., 0]


def batch_of(generator: torch.Generator, step: int) -> Batch:
    parts = {
        name: part if part.dtype is torch.bool else part.float()
        for name, part in gaussian_batch(generator, COUNT, 2, 2, SCALE).items()
    }
    nothing = torch.zeros(COUNT, 2)
    return Batch(
        **parts,
        angle=torch.rand(COUNT, generator=generator) * HALF_TURN,
        rewards=nothing,
        continues=nothing,
        value=nothing[:, 0],
        value_valid=nothing[:, 0].bool(),
        uniform=torch.rand(COUNT, EXTRA_DRAWS, generator=generator),
        step=torch.tensor(float(step)),
    )


@pytest.mark.parametrize(
    ("settings", "solved"),
    [
        ({"solver": "multistep", "solver_steps": 6}, None),
        (
            {
                "solver": "multistep",
                "solver_steps": 6,
                "pure_noise": 0.7,
                "intermediate": 0.3,
                "denoising_weight": 0.3,
            },
            None,
        ),
        ({"solver_steps": 3}, 3),
        (
            {
                "method": "consistency",
                "first_cells": 2,
                "solver_steps": 4,
                # A jump rests on those below it, so that fewer may start at the top.
                "pure_noise": 0.3,
                "denoising_weight": 0.1,
            },
            4,
        ),
    ],
)
def test_one_jump_learns_the_way(settings: dict[str, Any], solved: int | None) -> None:
    """solved: the DDIM steps whose end is learned, None for the flow's own."""
    generator = torch.Generator()
    seed = generator.seed()
    torch.manual_seed(seed)
    teacher, student = GaussianNetwork(SCALE), PointwiseNetwork()
    loss = StudentLoss(Distillation(**settings), STEPS, teacher)  # type: ignore[arg-type]
    optimiser = torch.optim.Adam(student.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for step in range(STEPS):
        total, _ = loss(student, batch_of(generator, step), COUNT)  # type: ignore[arg-type]
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
        schedule.step()

    fresh = batch_of(generator, STEPS)
    shared = fresh.given, fresh.condition
    angle, end = torch.full((COUNT,), HALF_TURN), torch.zeros(COUNT)
    with torch.no_grad():
        velocity = student(fresh.eps, *shared, angle, end, fresh.valid)
        landed = noise.denoise(fresh.eps, velocity, angle[:, None, None])
    if solved is None:
        wanted = teacher.point(fresh.eps, fresh.condition, end)
    else:
        wanted = way(teacher, fresh.eps, *shared, None, "ddim", solved)[-1]  # type: ignore[arg-type]
    error = (landed - wanted).square().mean().sqrt()
    # Whoever gives the mean whatever the noise is off by the whole spread.
    spread = (wanted - fresh.condition[:, :1, None]).square().mean().sqrt()
    assert error < 0.3 * spread, f"seed {seed}: {error} of {spread}"
