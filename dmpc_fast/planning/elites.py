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


def elite_mean(trajectories: np.ndarray, elites: list[np.ndarray]) -> np.ndarray:
    """The mean (B, F, X), float32, of each robot's elites among trajectories (B, N, F, X)."""
    return np.stack(
        [
            robot[chosen[0]] if len(chosen) == 1 else robot[chosen].mean(0, dtype=np.float64)
            for robot, chosen in zip(trajectories, elites, strict=True)
        ]
    ).astype(np.float32, copy=False)
