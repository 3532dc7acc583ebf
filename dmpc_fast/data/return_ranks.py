"""How good the episode of a window is, among the others: what a proposal can be conditioned on."""

from __future__ import annotations

import numpy as np

from dmpc_fast.data.windows import Windows


class ReturnRanks:
    """Ranks of episode returns in [0, 1]: 0 the worst of the data, 1 the best.

    The rank of a return is the share of the windows of `windows` whose episode returned less, counting
    half of those that returned the same, stretched so that the data's own ranks reach 0 and 1. Unlike
    the return it has no units and no outliers, and a rank of 1 can be asked for without knowing
    what the data hold.
    """

    def __init__(self, windows: Windows) -> None:
        self._returns = np.sort(windows.episode_returns)
        low, high = self._share(self._returns[[0, -1]])
        self._low, self._span = low, high - low

    def of(self, windows: Windows) -> np.ndarray:
        """The rank of each window's episode, (N,) float32; 0.5 where all data returned the same."""
        share = self._share(windows.episode_returns)
        if self._span <= 0:
            return np.full(len(share), 0.5, np.float32)
        return np.clip((share - self._low) / self._span, 0, 1).astype(np.float32)

    def _share(self, returns: np.ndarray) -> np.ndarray:
        below = np.searchsorted(self._returns, returns, side="left")
        through = np.searchsorted(self._returns, returns, side="right")
        return np.asarray((below + through) / (2 * len(self._returns)), np.float64)
