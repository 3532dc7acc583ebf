"""How sure a figure is, and how well two orders agree, in NumPy alone."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

#: Bootstrap means that one chunk of resampling holds at a time, times the sample's size.
CHUNK_ELEMENTS = 1 << 22


class Mean(NamedTuple):
    """A sample's mean and the standard error of it (0 for a single value)."""

    mean: float
    standard_error: float


class Interval(NamedTuple):
    """A point estimate between the bounds of its interval."""

    estimate: float
    low: float
    high: float


def mean_and_error(sample: np.ndarray) -> Mean:
    """Mean of `sample` (n,) and its standard error, std / sqrt(n) with n - 1 degrees of freedom."""
    values = _checked(sample, "sample")
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Mean(float(values.mean()), float(error))


def bootstrap_interval(
    sample: np.ndarray, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile bootstrap interval of the mean of `sample` (n,) (Efron 1979)."""
    values = _checked(sample, "sample")
    low, high = _interval(_bootstrap_means(values, resamples, seed), level)
    return Interval(float(values.mean()), low, high)


def paired_bootstrap_interval(
    first: np.ndarray,
    second: np.ndarray,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of mean(second - first), both (n,) and measured on the same n cases."""
    a, b = _checked(first, "first"), _checked(second, "second")
    if len(a) != len(b):
        raise ValueError(f"paired samples must have one length, got {len(a)} and {len(b)}")
    return bootstrap_interval(b - a, level=level, resamples=resamples, seed=seed)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation of two samples (n,), equal values sharing their mean rank.

    NaN where one of them is constant: then there is no order to agree with.
    """
    a, b = _checked(first, "first"), _checked(second, "second")
    if len(a) != len(b):
        raise ValueError(f"samples must have one length, got {len(a)} and {len(b)}")
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    norm = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / norm if norm > 0 else math.nan


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0 on (n,), equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: np.ndarray = (last - (counts + 1) / 2)[inverse.reshape(-1)]
    return ranks


def _bootstrap_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means (resamples,) of samples drawn from `values` with replacement."""
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK_ELEMENTS // len(values))
    means = []
    for start in range(0, resamples, rows):
        shape = (min(rows, resamples - start), len(values))
        means.append(values[generator.integers(0, len(values), shape)].mean(axis=1))
    return np.concatenate(means)


def _interval(means: np.ndarray, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}")
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _checked(sample: np.ndarray, name: str) -> np.ndarray:
    values = np.asarray(sample, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name} must be a non-empty vector, got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} must be finite, got {values[~np.isfinite(values)][0]}")
    return values
