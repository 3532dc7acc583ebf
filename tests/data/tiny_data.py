"""Spaces and episodes to make tiny datasets of."""

from __future__ import annotations

from typing import Any

import minari
import numpy as np
from gymnasium import spaces


def box(*shape: int, low: float = -np.inf, high: float = np.inf, dtype: Any = np.float32) -> Any:
    return spaces.Box(low, high, shape, dtype)


def episode(observations: Any, actions: Any, terminated: bool = False, **changes: Any) -> Any:
    """A buffer whose last step is flagged; `changes` replaces fields."""
    steps = len(actions)
    ends = np.zeros(steps, bool)
    ends[-1] = True
    fields = {
        "observations": observations,
        "actions": actions,
        "rewards": np.arange(steps, dtype=np.float64) / 8,
        "terminations": ends if terminated else np.zeros(steps, bool),
        "truncations": np.zeros(steps, bool) if terminated else ends,
    }
    return minari.data_collector.EpisodeBuffer(**{**fields, **changes})
