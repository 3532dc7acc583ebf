"""Which windows a batch is drawn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dmpc_fast.model_file import load_model
from dmpc_fast.training.api import train
from dmpc_fast.training.batches import _weights


class _Windows:
    """As much of `Windows` as the draw looks at: three episodes of 40, 10 and 25 steps."""

    def __init__(self) -> None:
        lengths, returns = (40, 10, 25), (5.0, 1.0, 3.0)
        self.ages = np.concatenate([np.arange(length) for length in lengths])
        self.episode_returns = np.repeat(returns, lengths)
        # To go: what is left of an episode whose every step is worth the same.
        self.returns = self.episode_returns * (1 - self.ages / np.repeat(lengths, lengths))

    def __len__(self) -> int:
        return len(self.ages)


def test_start_windows_get_their_share_and_keep_their_order() -> None:
    windows = _Windows()
    for steps, fraction in ((1, 0.1), (7, 0.3), (30, 0.5)):
        plain = _weights(windows, 0.4, "episode", 0.0, steps)
        weights = _weights(windows, 0.4, "episode", fraction, steps)
        starts = windows.ages < steps
        added = weights - plain
        assert added[~starts] == pytest.approx(0)
        assert added.sum() / weights.sum() == pytest.approx(fraction)
        # Among starts, the return decides as it does elsewhere.
        np.testing.assert_allclose(added[starts] / plain[starts], added.sum() / plain[starts].sum())


def test_without_preferences_all_windows_are_alike() -> None:
    np.testing.assert_array_equal(_weights(_Windows(), None, "episode", 0.0, 5), np.ones(75))


def test_weights_follow_the_return_of_the_episode_or_what_is_to_go() -> None:
    windows = _Windows()
    for weighted, returns in (("episode", windows.episode_returns), ("to-go", windows.returns)):
        weights = _weights(windows, 0.4, weighted, 0.0, 5)
        expected = np.exp((returns - returns.max()) / (0.4 * returns.std()))
        np.testing.assert_allclose(weights, expected)
    assert _weights(windows, 0.4, "episode", 0.0, 5)[:40].std() == 0
    assert np.all(np.diff(_weights(windows, 0.4, "to-go", 0.0, 5)[:40]) < 0)


def test_training_prefers_by_the_return_that_was_asked_for(dataset: str, tmp_path: Path) -> None:
    def trained(name: str, weighted: str) -> dict[str, np.ndarray]:
        return load_model(
            train(
                dataset, out=tmp_path / name, preset="tiny", stage_options={"patch": 2}, horizon=8,
                steps=2, batch_size=8, compile=False, control_period_s=0.05, progress=False,
                return_temperature=0.3, weighted_return=weighted,
            )
        ).tensors  # fmt: skip

    episode, again, to_go = (
        trained(str(i), w) for i, w in enumerate(("episode", "episode", "to-go"))
    )
    differing = {
        name.partition(".")[0] for name in episode if not np.array_equal(episode[name], to_go[name])
    }
    assert all(np.array_equal(episode[name], again[name]) for name in episode)
    assert differing == {"proposal"}
