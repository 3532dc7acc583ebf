"""Weights of the horizon's steps, and the angles that the dynamics learn at."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from dmpc_fast.data.minari import load_episodes
from dmpc_fast.data.windows import Windows
from dmpc_fast.training.batches import Batch
from dmpc_fast.training.settings import TrainingSettings
from dmpc_fast.training.stage_loss import DenoisingLoss
from dmpc_fast.training.step_weights import step_weights, unexplained_spread


def windows(dataset: str, horizon: int) -> Windows:
    store = load_episodes([dataset], control_period_s=0.05, progress=False)
    return Windows(store, horizon=horizon, discount=0.99, termination_penalty=0.0)


def test_spread_is_what_the_actions_add(dataset: str) -> None:
    """The point mass is linear, so all that a linear fit of s_t leaves open is the actions' doing:
    velocity has the variance of sum 0.9^2i 0.2^2 / 3 after k steps."""
    data = windows(dataset, 6)
    normalizer = data.normalizer()
    spread = unexplained_spread(data, normalizer, 0)
    steps = np.arange(1, 7)
    velocity = 0.04 / 3 * np.cumsum(0.81 ** (steps - 1))
    gains = [0.1 * 0.2 * (1 - 0.9**i) / 0.1 for i in steps]
    position = np.cumsum(np.square(gains)) / 3
    variances = np.stack([position, position, velocity, velocity], axis=1)
    expected = np.sqrt((variances / np.square(normalizer.state.scale)).mean(1))
    np.testing.assert_allclose(spread, expected, rtol=0.15)


def test_weights_favour_the_near_future_and_have_mean_one(dataset: str) -> None:
    data = windows(dataset, 8)
    normalizer = data.normalizer()
    found = step_weights(data, normalizer, 2.0, 1)
    assert found.mean() == pytest.approx(1, rel=1e-6)
    assert (np.diff(found) < 0.1 * found[:-1]).all() and found[0] > 4 * found[-1]
    np.testing.assert_allclose(step_weights(data, normalizer, 0.0, 1), 1)


def test_steps_that_no_window_reaches_weigh_as_the_last_that_some_do(dataset: str) -> None:
    data = windows(dataset, 64)
    found = step_weights(data, data.normalizer(), 2.0, 2)
    assert np.isfinite(found).all()
    assert (found[45:] == found[-1]).all()


class _Zero(torch.nn.Module):
    """A network that says nothing, and remembers what it was asked."""

    def forward(self, noisy: Any, given: Any, condition: Any, angle: Any, *rest: Any) -> Any:
        self.angle = angle
        return torch.zeros_like(noisy)


def batch(count: int) -> Batch:
    generator = torch.Generator().manual_seed(count)
    clean, eps = (torch.randn(count, 5, 3, generator=generator) for _ in range(2))
    angle = (torch.arange(count) + 0.5) / count * math.pi / 2
    fields = dict.fromkeys(Batch._fields)
    fields |= {"clean": clean, "eps": eps, "angle": angle}
    fields |= {"given": clean[..., :0], "condition": clean[:, 0], "valid": torch.ones(count, 5) > 0}
    return cast(Batch, SimpleNamespace(**fields))


def test_dynamics_learn_where_their_sampler_asks() -> None:
    network, angles = _Zero(), (math.pi / 2, math.pi / 3, math.pi / 6)
    DenoisingLoss(angles)(cast(Any, network), batch(12), 12)
    expected = torch.tensor(angles).repeat_interleave(4)
    torch.testing.assert_close(network.angle.sort().values, expected.sort().values)


def test_weights_multiply_the_errors_of_their_steps() -> None:
    data, weights = batch(9), torch.tensor([2.0, 0.0, 0.5, 1.0, 1.5])
    # From pure noise the velocity is -clean.
    loss, _ = DenoisingLoss((math.pi / 2,), weights)(cast(Any, _Zero()), data, 9)
    expected = (data.clean.square().mean((0, 2)) * weights).mean()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("muon", ("policy",)),
        ("muon_learning_rate", 0.0),
        ("proposal_angles", "some"),
        ("dynamics_angles", "some"),
        ("horizon_weighting", -1.0),
        ("horizon_weighting", math.nan),
    ],
)
def test_settings_out_of_range_are_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        TrainingSettings(steps={"dynamics": 1}, **cast(Any, {name: value}))
