"""Mean and standard deviation of more data than fits in memory, in one pass."""

from __future__ import annotations

import numpy as np

from dmpc_fast.normalizer import Affine


class Moments:
    """Running mean and sum of squared deviations per dimension, in float64.

    Chunks are joined by the pairwise update of Chan, Golub & LeVeque (1983), which does not cancel
    as a difference of sums of squares does.
    """

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean = np.zeros(size)
        self._squares = np.zeros(size)

    def add(self, rows: np.ndarray) -> None:
        """Take in rows (n, size)."""
        if not len(rows):
            return
        values = np.asarray(rows, np.float64)
        mean = values.mean(axis=0)
        delta = mean - self.mean
        total = self.count + len(values)
        self._squares += np.square(values - mean).sum(axis=0)
        self._squares += np.square(delta) * (self.count * len(values) / total)
        self.mean = self.mean + delta * (len(values) / total)
        self.count = total

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(self._squares / max(self.count, 1))

    def affine(self) -> Affine:
        """The map to zero mean and unit variance; the identity where nothing was taken in."""
        return Affine.from_moments(self.mean, self.std)
