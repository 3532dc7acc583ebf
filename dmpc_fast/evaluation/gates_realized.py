"""What a planner expects of its plans beside what came of them, over whole episodes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.evaluation.trace import trace_episode
from dmpc_fast.statistics import rank_correlation

#: Plans that a report lists one by one, taken evenly.
MAX_POINTS = 500


def realized_returns(
    model: Path,
    env_id: str,
    *,
    episodes: int,
    seed: int,
    backend: str,
    dtype: str,
    max_steps: int | None,
) -> dict[str, Any]:
    """Scores of the plans that were executed beside the discounted returns that followed them.

    Plans whose remaining episode does not tell the return to 10 % are left out. Gives counts, means,
    the mean absolute error, Spearman's correlation (None where there is no order) and the points.
    """
    predicted, realized, returns = [], [], []
    for episode in range(episodes):
        trace = trace_episode(
            model, env_id, seed=seed + episode, backend=backend, dtype=dtype, max_steps=max_steps,
            keep_plans=2,
        )  # fmt: skip
        known = trace.complete[trace.plan_steps]
        predicted.append(trace.predicted[known])
        realized.append(trace.realized[trace.plan_steps[known]])
        returns.append(float(trace.rewards.sum(dtype=np.float64)))
    expected, came = np.concatenate(predicted), np.concatenate(realized)
    report: dict[str, Any] = {"plans": len(expected), "returns": returns}
    if len(expected) > 1:
        order = rank_correlation(expected, came)
        every = slice(None, None, 1 + len(expected) // MAX_POINTS)
        report.update(
            mean_predicted=float(expected.mean()),
            mean_realized=float(came.mean()),
            mean_absolute_error=float(np.abs(expected - came).mean()),
            rank_correlation=None if math.isnan(order) else order,
            predicted=expected[every].round(3).tolist(),
            realized=came[every].round(3).tolist(),
        )
    return report
