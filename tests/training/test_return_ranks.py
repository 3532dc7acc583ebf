"""Ranks of episode returns."""

from __future__ import annotations

import numpy as np

from dmpc_fast.data.minari import load_episodes
from dmpc_fast.data.return_ranks import ReturnRanks
from dmpc_fast.data.windows import Windows


def of(dataset: str, episodes: np.ndarray | None = None) -> Windows:
    store = load_episodes([dataset], control_period_s=0.05, progress=False)
    return Windows(store, horizon=4, discount=0.9, termination_penalty=7.0, episodes=episodes)


def test_ranks_follow_returns_from_0_to_1(dataset: str) -> None:
    windows = of(dataset)
    ranks = ReturnRanks(windows).of(windows)
    assert ranks.dtype == np.float32 and ranks.shape == (len(windows),)
    order = np.argsort(windows.episode_returns, kind="stable")
    assert (np.diff(ranks[order]) >= 0).all()
    assert ranks.min() == 0 and ranks.max() == 1
    # As many windows above the middle as below: ranks are of windows, not of episodes.
    longest = max(np.unique(ranks, return_counts=True)[1])
    assert abs((ranks > 0.5).sum() - (ranks < 0.5).sum()) <= longest
    lengths = np.diff(windows.store.offsets)
    for part in np.split(ranks, np.cumsum(lengths)[:-1]):
        assert (part == part[0]).all()


def test_others_are_ranked_among_the_data(dataset: str) -> None:
    some = of(dataset, np.arange(3, 30))
    ranks = ReturnRanks(some)
    others = ranks.of(of(dataset, np.arange(3)))
    assert ((others >= 0) & (others <= 1)).all()
    alone = of(dataset, np.arange(1))
    assert (ReturnRanks(alone).of(alone) == 0.5).all()
