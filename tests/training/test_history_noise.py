"""Noise on the states that the proposal is told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmpc_fast.data.minari import load_episodes
from dmpc_fast.data.windows import Windows
from dmpc_fast.training.batches import Batch, StageBatches
from dmpc_fast.training.settings import TrainingSettings


def batch(windows: Windows, stage: str, noise: float, **options: int) -> Batch:
    batches = StageBatches(
        windows, windows.normalizer(), stage, seed=3, batch_size=256, history_noise=noise, **options
    )
    return batches.at(5)


def test_noise_moves_the_states_of_the_history_alone(dataset: str) -> None:
    store = load_episodes([dataset], control_period_s=0.05, progress=False)
    windows = Windows(store, horizon=4, history=3, discount=0.9, termination_penalty=7.0)
    plain, moved = batch(windows, "proposal", 0.0), batch(windows, "proposal", 0.2)
    for name in Batch._fields:
        if name != "condition" and getattr(plain, name) is not None:
            torch.testing.assert_close(getattr(moved, name), getattr(plain, name), rtol=0, atol=0)
    difference = (moved.condition - plain.condition).numpy()
    assert (difference[:, 12:] == 0).all()
    mask = plain.condition[:, -2:].numpy()
    states = difference[:, :12].reshape(-1, 3, 4)
    assert (states[:, :2][mask == 0] == 0).all() and (mask == 0).any()
    np.testing.assert_allclose(states[:, 2].std(), 0.2, rtol=0.1)
    np.testing.assert_allclose(states[:, :2][mask == 1].std(), 0.2, rtol=0.1)
    # Dynamics and objective are told what was.
    for stage in ("dynamics", "objective"):
        same = batch(windows, stage, 0.2).condition
        torch.testing.assert_close(same, batch(windows, stage, 0.0).condition, rtol=0, atol=0)


def test_processes_draw_the_same_noise(dataset: str) -> None:
    store = load_episodes([dataset], control_period_s=0.05, progress=False)
    windows = Windows(store, horizon=4, discount=0.9, termination_penalty=7.0)
    whole = batch(windows, "proposal", 0.2)
    parts = [batch(windows, "proposal", 0.2, rank=rank, world=2) for rank in range(2)]
    joined = torch.cat([part.condition for part in parts])
    torch.testing.assert_close(whole.condition, joined, rtol=0, atol=0)


@pytest.mark.parametrize("wrong", [-0.1, float("nan"), float("inf")])
def test_noise_must_be_a_number(wrong: float) -> None:
    with pytest.raises(ValueError, match="history_noise must be finite and at least 0, got"):
        TrainingSettings(steps={}, history_noise=wrong)
