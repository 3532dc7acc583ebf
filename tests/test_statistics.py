"""Standard errors and bootstrap intervals against closed forms and against SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist

from dmpc_fast import statistics
from dmpc_fast.statistics import (
    bootstrap_interval,
    bootstrap_ratio_interval,
    energy_distance,
    holm,
    mean_and_error,
    median_distance,
    paired_bootstrap_interval,
    paired_randomization_p,
    rank_correlation,
    squared_mmd,
    stratified_bootstrap_interval,
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


def test_strata_count_alike_and_are_resampled_alone() -> None:
    rng = np.random.default_rng(13)
    samples = [rng.normal(0, 1, 400), rng.normal(30, 2, 900)]
    estimate, low, high = stratified_bootstrap_interval(samples, level=0.9)
    assert estimate == pytest.approx((samples[0].mean() + samples[1].mean()) / 2)
    error = math.hypot(*(mean_and_error(sample).standard_error for sample in samples)) / 2
    assert (high - low) / error == pytest.approx(2 * 1.645, rel=0.05)
    single = stratified_bootstrap_interval(samples[:1], level=0.9)
    assert single == bootstrap_interval(samples[0], level=0.9)
    with pytest.raises(ValueError, match="at least one sample"):
        stratified_bootstrap_interval([])


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


@pytest.mark.parametrize("count", [2, 9, 40])
def test_the_randomization_test_is_that_of_scipy(count: int) -> None:
    rng = np.random.default_rng(count)
    differences = rng.normal(-0.2, 1, count)
    ours = paired_randomization_p(differences, resamples=40_000)
    theirs = stats.permutation_test(
        (differences, np.zeros(count)),
        lambda a, b: np.mean(a - b),
        permutation_type="samples",
        vectorized=False,
        alternative="less",
        n_resamples=4_000,
        rng=rng,
    ).pvalue
    assert ours == pytest.approx(theirs, abs=0.03)


def test_the_randomization_test_sees_a_clear_effect_and_no_other() -> None:
    rng = np.random.default_rng(8)
    worse = rng.normal(-1, 1, 60)
    assert paired_randomization_p(worse) == pytest.approx(1 / 100_001, rel=2)
    assert paired_randomization_p(-worse) > 0.999
    assert paired_randomization_p(np.zeros(5)) == 1.0
    with pytest.raises(ValueError, match="resamples must be"):
        paired_randomization_p(worse, resamples=0)


def test_holm_corrects_as_in_the_textbook() -> None:
    # 0.01 x 4, 0.02 x 3 raised to 0.06 of the one before, and so on; ties and order do not matter.
    assert holm(np.array([0.02, 0.01, 0.04, 0.03])) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm(np.array([0.5, 0.9])) == pytest.approx([1.0, 1.0])
    assert holm(np.array([0.3])) == pytest.approx([0.3])
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        holm(np.array([1.5]))


def test_the_interval_of_a_ratio_is_that_of_scipy() -> None:
    rng = np.random.default_rng(9)
    below = rng.gamma(9, 1, 60)
    above = 1.3 * below + rng.normal(0, 1, 60)
    ours = bootstrap_ratio_interval(above, below, resamples=20_000)
    theirs = stats.bootstrap(
        (above, below),
        lambda a, b, axis: np.mean(a, axis) / np.mean(b, axis),
        paired=True,
        confidence_level=0.9,
        n_resamples=20_000,
        method="percentile",
        rng=rng,
    )
    assert ours.estimate == pytest.approx(above.mean() / below.mean())
    tolerance = 0.08 * float(theirs.standard_error)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=tolerance)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=tolerance)
    with pytest.raises(ValueError, match="positive mean below the line"):
        bootstrap_ratio_interval(above, -below)
    with pytest.raises(ValueError, match="one length"):
        bootstrap_ratio_interval(above, below[1:])


def test_energy_distance_is_that_of_scipy() -> None:
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=37), rng.exponential(size=52)
    root = stats.energy_distance(x, y)
    assert energy_distance(x[:, None], y[:, None]) == pytest.approx(root**2)
    a, b = rng.normal(size=(20, 7)) + 1e4, rng.normal(0.5, 2, size=(31, 7)) + 1e4
    expected = 2 * cdist(a, b).mean() - cdist(a, a).mean() - cdist(b, b).mean()
    assert energy_distance(a, b) == pytest.approx(expected, rel=1e-8)
    # The root of what float64 rounds.
    assert energy_distance(a, a.copy()) == pytest.approx(0, abs=1e-6)


def test_mmd_is_that_of_its_definition() -> None:
    rng = np.random.default_rng(11)
    a, b = rng.normal(size=(20, 7)), rng.normal(0.5, 2, size=(31, 7))

    def kernel(x: np.ndarray, y: np.ndarray, width: float) -> float:
        return float(np.exp(-cdist(x, y, "sqeuclidean") / (2 * width**2)).mean())

    for given in (None, 0.7):
        width = given or float(np.median(cdist(a, a)[np.triu_indices(20, 1)]))
        expected = kernel(a, a, width) + kernel(b, b, width) - 2 * kernel(a, b, width)
        assert squared_mmd(a, b, bandwidth=given) == pytest.approx(expected, rel=1e-8)
    assert median_distance(np.array([[0.0], [1.0], [5.0]])) == pytest.approx(4)


def test_distances_tell_distributions_apart() -> None:
    rng = np.random.default_rng(12)
    x, same, wider = (
        rng.normal(size=(200, 3)),
        rng.normal(size=(200, 3)),
        rng.normal(0, 2, (200, 3)),
    )
    for distance in (energy_distance, squared_mmd):
        assert distance(x, wider) > 5 * distance(x, same) > 0


def test_wrong_points_are_refused() -> None:
    for first, second, message in (
        (np.zeros((3, 2)), np.zeros((3, 1)), "vectors of one size"),
        (np.zeros(3), np.zeros(3), "vectors of one size"),
        (np.zeros((0, 2)), np.zeros((3, 2)), "vectors of one size"),
        (np.full((2, 1), math.nan), np.zeros((3, 1)), "must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            energy_distance(first, second)
    with pytest.raises(ValueError, match="bandwidth must be positive"):
        squared_mmd(np.zeros((3, 1)), np.ones((2, 1)))
    with pytest.raises(ValueError, match="at least two vectors"):
        median_distance(np.zeros((1, 2)))
