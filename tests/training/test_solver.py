"""The teacher's way against a flow that is known."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from gaussian import GaussianNetwork, gaussian_batch

from dmpc_fast.training.solver import solver_angles, way

SCALE = 0.3


def end_error(rule: str, steps: int) -> float:
    generator = torch.Generator().manual_seed(3)
    batch = gaussian_batch(generator, 7, 5, 3, SCALE)
    arguments = (batch["eps"], batch["given"], batch["condition"], None)
    end = way(GaussianNetwork(SCALE), *arguments, rule, steps)[-1].double()  # type: ignore[arg-type]
    truth = batch["condition"][:, :1, None] + SCALE * batch["eps"]
    return float((end - truth).abs().max())


@pytest.mark.parametrize(("rule", "order"), [("ddim", 1), ("multistep", 2)])
def test_the_way_ends_where_the_flow_does(rule: str, order: int) -> None:
    errors = [end_error(rule, steps) for steps in (32, 64, 128)]
    for coarse, fine in pairwise(errors):
        assert coarse / fine > 0.8 * 2**order
    assert errors[0] < (0.2, 0.01)[order - 1]


def test_points_lie_on_the_flow() -> None:
    generator = torch.Generator().manual_seed(4)
    batch = gaussian_batch(generator, 3, 4, 2, SCALE)
    network = GaussianNetwork(SCALE)
    points = way(network, batch["eps"], batch["given"], batch["condition"], None, "multistep", 40)  # type: ignore[arg-type]
    for angle, point in zip(solver_angles("multistep", 40), points, strict=True):
        truth = network.point(batch["eps"], batch["condition"], torch.full((3,), angle))
        torch.testing.assert_close(point.double(), truth, atol=0.02, rtol=0)


def test_few_ddim_steps_shrink_the_spread() -> None:
    """Why a student of a few-step teacher is a calmer one: what `solver` chooses between."""
    generator = torch.Generator().manual_seed(5)
    batch = gaussian_batch(generator, 4000, 1, 1, 1.0)
    batch["condition"][:] = 0

    def spread(rule: str, steps: int) -> float:
        network = GaussianNetwork(0.5)
        arguments = (batch["eps"], batch["given"], batch["condition"], None)
        return float(way(network, *arguments, rule, steps)[-1].std())  # type: ignore[arg-type]

    # One step gives the mean; the flow's own deviation is 0.5.
    assert spread("ddim", 1) < 1e-5
    assert spread("ddim", 3) < spread("ddim", 8) < 0.5
    assert spread("multistep", 8) == pytest.approx(0.5, rel=0.05)


def test_angles_fall_from_noise_to_data() -> None:
    for rule in ("ddim", "multistep"):
        angles = solver_angles(rule, 7)
        assert angles[0] == pytest.approx(math.pi / 2)
        assert angles[-1] == 0
        assert list(angles) == sorted(angles, reverse=True)
        assert len(angles) == 8
