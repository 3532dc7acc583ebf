"""Scores on D4RL's scale: 0 is a random policy's return, 100 an expert's (Fu et al. 2020)."""

from __future__ import annotations

import numpy as np

#: Returns that count as 0 and 100, by the task's name without its version.
REFERENCE_RETURNS = {
    "Hopper": (-20.272305, 3234.3),
    "Walker2d": (1.629008, 4592.3),
    "HalfCheetah": (-280.178953, 12135.0),
}


def score_range(env_id: str) -> tuple[float, float] | None:
    """The reference returns of a task, or None where there are none."""
    return REFERENCE_RETURNS.get(env_id.rpartition("-v")[0])


def normalized_score(returns: np.ndarray | float, references: tuple[float, float]) -> np.ndarray:
    """100 (return - min) / (max - min), element by element, in float64."""
    low, high = references
    if not low < high:
        raise ValueError(f"reference returns must have low < high, got {low} and {high}")
    return 100.0 * (np.asarray(returns, np.float64) - low) / (high - low)
