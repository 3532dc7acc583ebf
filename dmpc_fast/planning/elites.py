"""What a plan runs: its best candidate, or the mean of its elites."""

from __future__ import annotations

import numpy as np

from dmpc_fast.backends.base import PlanResult


def elites_of(result: PlanResult, num_elites: int) -> list[np.ndarray]:
    """Each robot's candidates whose mean is run, the best one first: B arrays of indices.

    They are the best candidate and those next in score, `num_elites` in all; fewer where not so many
    violate constraints no more than the best one and have a score and finite actions. Errors of the
    scores that are as large as the differences between good candidates average out in the mean.
    """
    if num_elites == 1:
        return [best[None] for best in result.best]
    rows = np.arange(len(result.best))
    eligible = result.violations <= result.violations[rows, result.best, None]
    eligible &= ~np.isnan(result.scores) & np.isfinite(result.actions).all((-2, -1))
    eligible[rows, result.best] = False
    # By score, the first of equals first; ineligible candidates last.
    order = np.lexsort((-result.scores, ~eligible), axis=-1)
    counts = np.minimum(eligible.sum(-1), num_elites - 1)
    return [
        np.concatenate([best[None], others[:count]])
        for best, others, count in zip(result.best, order, counts, strict=True)
    ]


def places_of_best(result: PlanResult) -> np.ndarray:
    """Where each robot's best candidate stands among all robots' candidates, one after another."""
    if len(result.best) == 1:
        return result.best
    first = np.arange(len(result.best)) * result.scores.shape[1]
    places: np.ndarray = first + result.best
    return places


def rows_at(trajectories: np.ndarray, places: np.ndarray) -> np.ndarray:
    """A copy (B, F, X) of those of trajectories (B, N, F, X) that stand in these places."""
    return trajectories.reshape(-1, *trajectories.shape[2:]).take(places, 0)


def elite_mean(trajectories: np.ndarray, elites: list[np.ndarray]) -> np.ndarray:
    """The mean (B, F, X), float32, of each robot's elites among trajectories (B, N, F, X)."""
    means = np.empty((len(elites), *trajectories.shape[2:]), np.float32)
    for robot, chosen in enumerate(elites):
        means[robot] = trajectories[robot].take(chosen, 0).sum(0, np.float64) / len(chosen)
    return means
