"""Losses against what they should be by hand."""

from __future__ import annotations

import math

import pytest
import torch

from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.spec import EnvironmentSpec, ModelSpec, preset_stages
from dmpc_fast.training.losses import objective_loss, velocity_loss


def make_spec(**stage_options: object) -> ModelSpec:
    stages = preset_stages("tiny", **stage_options)
    environment = EnvironmentSpec(None, None, (-1.0, -1.0), (1.0, 1.0), 0.05)
    return ModelSpec(5, 2, 8, 1, 0, 0.99, 10.0, stages, environment)


def test_an_untrained_network_predicts_zero_velocity() -> None:
    """Zero-initialised output: the loss of the start is the velocity's own mean square, 1."""
    torch.manual_seed(0)
    network = TrajectoryTransformer(make_spec(), "proposal")
    clean, eps = torch.randn(512, 8, 2), torch.randn(512, 8, 2)
    angle = torch.rand(512) * math.pi / 2
    valid = torch.ones(512, 8, dtype=torch.bool)
    loss = velocity_loss(
        network, clean, clean[..., :0], torch.randn(512, 5), valid, angle, eps, 512
    )
    assert float(loss.detach()) == pytest.approx(1.0, rel=0.1)


def test_steps_past_the_end_do_not_change_loss_or_gradient() -> None:
    torch.manual_seed(1)
    network = TrajectoryTransformer(make_spec(patch=2), "dynamics").double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    clean, given, eps = (torch.randn(3, 8, n, dtype=torch.float64) for n in (5, 2, 5))
    angle, condition = torch.rand(3, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    # Whole tokens are invalid: what they hold must be invisible to the others.
    valid = (torch.arange(8) < 4).expand(3, 8)
    gradients = []
    for garbage in (0.0, 100.0):
        network.zero_grad()
        spoiled = [torch.where(valid[..., None], x, garbage) for x in (clean, given, eps)]
        velocity_loss(network, *spoiled[:2], condition, valid, angle, spoiled[2], 3).backward()
        gradients.append([p.grad.clone() for p in network.parameters() if p.grad is not None])
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second)


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    torch.manual_seed(2)
    network = TrajectoryTransformer(make_spec(), "dynamics").double()
    torch.nn.init.normal_(network.final["out"].weight)
    clean, given, eps = (torch.randn(6, 8, n, dtype=torch.float64) for n in (5, 2, 5))
    angle, condition = torch.rand(6, dtype=torch.float64), torch.randn(6, 5, dtype=torch.float64)
    valid = torch.rand(6, 8) < 0.8
    valid[:, 0] = True

    def loss(part: slice) -> torch.Tensor:
        arguments = (x[part] for x in (clean, given, condition, valid, angle, eps))
        return velocity_loss(network, *arguments, 6)

    torch.testing.assert_close(loss(slice(0, 2)) + loss(slice(2, 6)), loss(slice(0, 6)))


def test_objective_loss_counts_only_what_is_known() -> None:
    outputs = torch.zeros(2, 4, 3)
    rewards, continues = torch.ones(2, 4), torch.ones(2, 4)
    valid = torch.tensor([[True] * 4, [True, True, False, False]])
    value, known = torch.tensor([3.0, 5.0]), torch.tensor([True, False])
    losses = objective_loss(outputs, rewards, continues, value, valid, known, 2)
    expected = (6 / 8, 6 / 8 * math.log(2), 9 / 2)
    for loss, figure in zip(losses, expected, strict=True):
        assert float(loss.detach()) == pytest.approx(figure)
