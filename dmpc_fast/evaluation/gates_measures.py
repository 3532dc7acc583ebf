"""The figures of the gates, from samples of student and teacher: pure functions of arrays.

K states, M candidates at each. Every figure compares the student with the teacher; its `split` is
the same figure of the teacher from other noise, so that 1, or the split, is what no student can beat.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dmpc_fast.evaluation.gates_samples import Samples
from dmpc_fast.statistics import (
    Interval,
    bootstrap_ratio_interval,
    energy_distance,
    median_distance,
    rank_correlation,
    squared_mmd,
)


class Figure(NamedTuple):
    """A student's figure with its bootstrap 90 % interval over states, and the split's own."""

    value: Interval
    split: float | None


def paired_noise(student: np.ndarray, teacher: np.ndarray, other: np.ndarray) -> Figure:
    """Distance of student and teacher from the same noise, over that of teacher and teacher from
    other noise.

    Trajectories (K, M, F, D) in units in which dimensions compare. Root mean squares. 0: the noise
    decides as it does for the teacher. sqrt(1/2): the teacher's mean. 1: as the teacher, but by
    other noise.
    """
    wrong, apart = (np.square(x - teacher).mean((1, 2, 3)) for x in (student, other))
    low_high = bootstrap_ratio_interval(wrong, apart)
    return Figure(Interval(*(math.sqrt(x) for x in low_high)), 1.0)


def variance_ratios(student: np.ndarray, teacher: np.ndarray, other: np.ndarray) -> list[Figure]:
    """Variance over candidates, student's over teacher's, of each dimension of (K, M, F, D)."""
    parts = [x.var(axis=1, ddof=1).mean(1) for x in (student, teacher, other)]  # each (K, D)
    return [
        _ratio(*(part[:, dimension] for part in parts)) for dimension in range(parts[0].shape[1])
    ]


def pooled_variance_ratio(student: np.ndarray, teacher: np.ndarray, other: np.ndarray) -> Figure:
    """The same over all dimensions, which must be in units in which they compare."""
    return _ratio(*(x.var(axis=1, ddof=1).mean((1, 2)) for x in (student, teacher, other)))


def distribution_distances(
    student: np.ndarray, teacher: np.ndarray, other: np.ndarray
) -> dict[str, Figure]:
    """Energy distance and squared MMD of student and teacher over those of teacher and teacher.

    Trajectories (K, M, F, D) in units in which dimensions compare; distances are those of each
    state's M flattened trajectories, and the means over states are divided. `student` and `teacher`
    come from the same noise and are both held against `other`. 1: one distribution.
    """
    rows: dict[str, list[tuple[float, float]]] = {"energy_distance": [], "mmd": []}
    for a, b, c in zip(student, teacher, other, strict=True):
        first, second, third = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b, c))
        width = max(median_distance(third), 1e-12)
        rows["energy_distance"].append(
            (energy_distance(third, first), energy_distance(third, second))
        )
        own, split = (squared_mmd(third, x, bandwidth=width) for x in (first, second))
        rows["mmd"].append((own, split))
    figures = {}
    for name, pairs in rows.items():
        figures[name] = Figure(bootstrap_ratio_interval(*np.array(pairs).T), 1.0)
    return figures


def sample_counts(candidates: int) -> list[int]:
    """1, 2, 4, ... up to the number of candidates, which comes last."""
    counts = [1 << power for power in range(20) if 1 << power < candidates]
    return [*counts, candidates]


def best_of(scores: np.ndarray, counts: list[int]) -> np.ndarray:
    """Expected best of n of the M scores (K, M), drawn without replacement, for every n: (K, n)."""
    ordered = np.sort(np.asarray(scores, np.float64), axis=1)[:, ::-1]
    size = ordered.shape[1]
    curves = []
    for count in counts:
        weights = np.zeros(size)  # that the i-th best is the best of those drawn
        weights[0] = count / size
        for i in range(1, size - count + 1):
            weights[i] = weights[i - 1] * (size - count - i + 1) / (size - i)
        curves.append(ordered @ weights)
    return np.stack(curves, axis=1)


def best_of_n_slope(
    student: np.ndarray, teacher: np.ndarray, other: np.ndarray, counts: list[int]
) -> Figure:
    """Slope of the best score over log2 of the number of candidates, student's over teacher's.

    Scores (K, M); least squares over `counts`.
    """
    steps = np.log2(counts)
    steps = (steps - steps.mean()) / np.square(steps - steps.mean()).sum()
    return _ratio(*(best_of(scores, counts) @ steps for scores in (student, teacher, other)))


def rank_agreement(samples: Samples) -> tuple[Figure, np.ndarray, np.ndarray]:
    """Spearman's correlation of J over the same candidates, with the split's own as divisor.

    J by the student's dynamics and J by the teacher's, each held against the teacher's from other
    noise; mean over states. Also gives both correlations of every state at which there is an order.
    """
    pairs = np.array(
        [
            [rank_correlation(other, student), rank_correlation(other, teacher)]
            for other, student, teacher in zip(
                samples.other_scores, samples.student_scores, samples.teacher_scores, strict=True
            )
        ]
    )
    own, split = pairs[~np.isnan(pairs).any(1)].T
    if not own.size:
        raise ValueError("all candidates score alike at every state: there are no ranks to compare")
    return Figure(bootstrap_ratio_interval(own, split), float(split.mean())), own, split


def error_ratio(student: np.ndarray, teacher: np.ndarray) -> Figure:
    """Open-loop error of the student over the teacher's: (K, F) each, mean over states and steps."""
    return Figure(bootstrap_ratio_interval(student.mean(1), teacher.mean(1)), None)


def _ratio(student: np.ndarray, teacher: np.ndarray, other: np.ndarray) -> Figure:
    """mean(student) / mean(teacher), each (K,), and the split's mean(other) / mean(teacher)."""
    return Figure(bootstrap_ratio_interval(student, teacher), float(other.mean() / teacher.mean()))
