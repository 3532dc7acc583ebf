"""Standard errors and bootstrap intervals against closed forms and against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dmpc_fast import statistics
from dmpc_fast.statistics import (
    bootstrap_interval,
    mean_and_error,
    paired_bootstrap_interval,
    rank_correlation,
)


def test_the_standard_error_is_that_of_the_textbook() -> None:
    sample = np.random.default_rng(0).normal(3, 2, 37)
    mean, error = mean_and_error(sample)
    variance = sum((x - sum(sample) / 37) ** 2 for x in sample) / 36
    assert mean == pytest.approx(sum(sample) / 37)
    assert error == pytest.approx(math.sqrt(variance / 37))
    assert mean_and_error(np.array([5.0])) == (5.0, 0.0)


def test_a_bootstrap_interval_is_that_of_the_normal_for_a_large_sample() -> None:
    sample = np.random.default_rng(1).normal(10, 3, 2000)
    estimate, low, high = bootstrap_interval(sample, level=0.9, resamples=20_000)
    mean, error = mean_and_error(sample)
    assert estimate == pytest.approx(mean)
    # 1.645 standard errors; the quantile of 20000 resamples is known to about 2 % of one.
    assert (high - mean) / error == pytest.approx(1.645, abs=0.08)
    assert (mean - low) / error == pytest.approx(1.645, abs=0.08)


def test_a_bootstrap_interval_is_the_exact_one_of_a_tiny_sample() -> None:
    # Two values: the resampled means are 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4.
    assert bootstrap_interval(np.array([0.0, 1.0]), level=0.4) == (0.5, 0.5, 0.5)
    assert bootstrap_interval(np.array([0.0, 1.0]), level=0.9) == (0.5, 0.0, 1.0)


def test_bootstrap_intervals_equal_those_of_scipy() -> None:
    sample = np.random.default_rng(2).exponential(2, 50)
    ours = bootstrap_interval(sample, level=0.95, resamples=40_000)
    theirs = stats.bootstrap(
        (sample,), np.mean, n_resamples=40_000, method="percentile", rng=np.random.default_rng(3)
    ).confidence_interval
    error = mean_and_error(sample).standard_error
    assert ours.low == pytest.approx(theirs.low, abs=0.06 * error)
    assert ours.high == pytest.approx(theirs.high, abs=0.06 * error)
    assert mean_and_error(sample).standard_error == pytest.approx(stats.sem(sample))


def test_pairing_removes_what_the_cases_share() -> None:
    rng = np.random.default_rng(4)
    cases = rng.normal(0, 100, 60)
    first, second = cases + rng.normal(0, 1, 60), cases + 2 + rng.normal(0, 1, 60)
    estimate, low, high = paired_bootstrap_interval(first, second)
    assert estimate == pytest.approx(np.mean(second - first))
    assert 1 < low < estimate < high < 3
    assert paired_bootstrap_interval(first, second) == (estimate, low, high)


def test_chunks_do_not_change_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = np.random.default_rng(5).normal(size=11)
    whole = bootstrap_interval(sample, resamples=500, seed=6)
    monkeypatch.setattr(statistics, "CHUNK_ELEMENTS", 70)
    assert bootstrap_interval(sample, resamples=500, seed=6) == whole


@pytest.mark.parametrize("levels", [3, 7, 10**9])
def test_rank_correlation_equals_that_of_scipy(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for count in (2, 3, 17, 200):
        first = rng.integers(0, levels, count).astype(float)
        second = first * rng.choice([-1, 1]) + rng.integers(0, levels, count)
        if np.ptp(first) and np.ptp(second):
            expected = stats.spearmanr(first, second).statistic
            assert rank_correlation(first, second) == pytest.approx(expected)


def test_rank_correlation_sees_the_order_alone() -> None:
    values = np.random.default_rng(7).normal(size=30)
    assert rank_correlation(values, np.exp(values)) == pytest.approx(1)
    assert rank_correlation(values, -(values**3)) == pytest.approx(-1)
    assert math.isnan(rank_correlation(values, np.ones(30)))
    with pytest.raises(ValueError, match="one length, got 30 and 29"):
        rank_correlation(values, values[1:])


def test_a_wrong_sample_is_refused() -> None:
    for sample, message in (
        (np.array([]), "non-empty vector"),
        (np.zeros((2, 2)), r"shape \(2, 2\)"),
        (np.array([1.0, math.nan]), "must be finite, got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            mean_and_error(sample)
    with pytest.raises(ValueError, match="one length, got 2 and 3"):
        paired_bootstrap_interval(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="level must be"):
        bootstrap_interval(np.zeros(2), level=1.0)
    with pytest.raises(ValueError, match="resamples must be"):
        bootstrap_interval(np.zeros(2), resamples=0)
