"""How sure a figure is, how well two orders agree, and how far two samples are apart: NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
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


def stratified_bootstrap_interval(
    samples: Sequence[np.ndarray],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of the mean of several samples' means, each sample (n_i,) resampled alone."""
    values = [_checked(sample, "a sample") for sample in samples]
    if not values:
        raise ValueError("samples must hold at least one sample, got none")
    means = [_bootstrap_means(v, resamples, seed + i) for i, v in enumerate(values)]
    low, high = _interval(np.mean(means, axis=0), level)
    return Interval(float(np.mean([v.mean() for v in values])), low, high)


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


def paired_randomization_p(
    differences: np.ndarray, *, resamples: int = 100_000, seed: int = 0
) -> float:
    """One-sided p-value of "the mean of paired `differences` (n,) is not below 0".

    Fisher's randomization test: without an effect each difference might as well have had the other
    sign. Signs are drawn `resamples` times, so the value is at least 1 / (resamples + 1).
    """
    values = _checked(differences, "differences")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    generator = np.random.default_rng(seed)
    # Sums that differ by rounding alone are ties, and a tie speaks against an effect.
    limit = values.sum() + 1e-12 * np.abs(values).sum()
    rows, extreme = max(1, CHUNK_ELEMENTS // len(values)), 0
    for start in range(0, resamples, rows):
        shape = (min(rows, resamples - start), len(values))
        signs = generator.integers(0, 2, shape, np.int8) * np.int8(2) - np.int8(1)
        extreme += int((signs @ values <= limit).sum())
    return (1 + extreme) / (1 + resamples)


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's adjusted p-values (n,): those below a level are significant at it, all taken together.

    Holm (1979): the least p-value counts n-fold, the next one n - 1 times, and so on.
    """
    p = _checked(p_values, "p_values")
    if np.any((p < 0) | (p > 1)):
        raise ValueError(f"p_values must lie in [0, 1], got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def bootstrap_ratio_interval(
    above: np.ndarray,
    below: np.ndarray,
    *,
    level: float = 0.9,
    resamples: int = 2_000,
    seed: int = 0,
) -> Interval:
    """Bootstrap interval of mean(above) / mean(below), both (n,) and measured on the same n cases.

    Raises ValueError where the mean below the line is not positive.
    """
    a, b = _checked(above, "above"), _checked(below, "below")
    if len(a) != len(b):
        raise ValueError(f"paired samples must have one length, got {len(a)} and {len(b)}")
    if not b.mean() > 0:
        raise ValueError(f"a ratio needs a positive mean below the line, got {b.mean()}")
    # One seed draws the same cases for both.
    means = _bootstrap_means(a, resamples, seed), _bootstrap_means(b, resamples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = means[0] / means[1]
    low, high = _interval(ratios[np.isfinite(ratios)], level)
    return Interval(float(a.mean() / b.mean()), low, high)


def energy_distance(first: np.ndarray, second: np.ndarray) -> float:
    """2 E|x - y| - E|x - x'| - E|y - y'| of samples (n, d) and (m, d) (Székely & Rizzo 2013).

    The V-statistic: over all pairs, a point with itself included, so that it is never negative and
    of the order of 1/n for samples of one distribution. Its root is a metric.
    """
    x, y = _checked_points(first, second)
    between, within = _distances(x, y).mean(), _distances(x, x).mean() + _distances(y, y).mean()
    return float(max(0.0, 2.0 * between - within))


def squared_mmd(first: np.ndarray, second: np.ndarray, *, bandwidth: float | None = None) -> float:
    """Squared maximum mean discrepancy of samples (n, d) and (m, d) (Gretton et al. 2012).

    The V-statistic of the kernel exp(-|x - y|^2 / (2 bandwidth^2)); bandwidth None: the median
    distance between the points of `first`.
    """
    x, y = _checked_points(first, second)
    if bandwidth is None:
        bandwidth = median_distance(x)
    if not bandwidth > 0:
        raise ValueError(f"bandwidth must be positive, got {bandwidth}")

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(np.square(_distances(a, b)) / (-2.0 * bandwidth**2)).mean())

    return max(0.0, kernel(x, x) + kernel(y, y) - 2.0 * kernel(x, y))


def median_distance(points: np.ndarray) -> float:
    """Median distance between two different points of (n, d), n at least 2."""
    if points.ndim != 2 or len(points) < 2:
        raise ValueError(f"points must be at least two vectors, got shape {points.shape}")
    return float(np.median(_distances(points, points)[np.triu_indices(len(points), 1)]))


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Euclidean distances (n, m) of the rows of (n, d) and (m, d)."""
    squares = np.square(first).sum(1)[:, None] + np.square(second).sum(1) - 2.0 * first @ second.T
    if first is second:
        np.fill_diagonal(squares, 0.0)
    distances: np.ndarray = np.sqrt(np.maximum(squares, 0.0))
    return distances


def _checked_points(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both samples in float64, about their common mean so that distances lose no digits."""
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not x.size or not y.size:
        raise ValueError(
            f"samples must be vectors of one size, (n, d) and (m, d), got {x.shape} and {y.shape}"
        )
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("samples must be finite, got NaN or infinity")
    middle = x.mean(0)
    return x - middle, y - middle


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
