"""Scores of episodes as the arms of experiments keep and show them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.evaluation.evaluate import evaluate
from dmpc_fast.evaluation.experiments.arms import Common
from dmpc_fast.evaluation.scores import normalized_score, score_range
from dmpc_fast.statistics import mean_and_error


def score_summary(
    task: str, returns: Sequence[float] | np.ndarray, lengths: Sequence[int]
) -> dict[str, Any]:
    """Mean and standard error of the normalised scores, the mean length, and both by episode.

    A task without reference returns has its returns for scores.
    """
    references = score_range(task)
    values = np.asarray(returns, np.float64)
    scores = values if references is None else normalized_score(values, references)
    return {
        "score": list(mean_and_error(scores)),
        "length": float(np.mean(lengths)),
        "scores": scores.tolist(),
        "lengths": [int(length) for length in lengths],
    }


def planner_scores(
    common: Common, model: Path, task: str, *, modify: Sequence[str] = (), **options: Any
) -> dict[str, Any]:
    """`score_summary` of the episodes of a model's planner; options: further ones of `evaluate`."""
    usual: dict[str, Any] = {
        "num_samples": common.num_samples,
        "num_elites": common.num_elites,
        "planner_options": common.options(),
    }
    found = evaluate(
        model,
        task,
        episodes=common.episodes,
        seed=common.seed,
        backend=common.backend,
        dtype=common.dtype,
        modify=modify,
        batch=common.batch,
        max_steps=common.max_steps,
        progress=common.progress,
        **{**usual, **options},
    )
    return score_summary(task, found.returns, found.lengths.tolist())


def shown(value: Sequence[float], digits: int = 1) -> str:
    """A mean and its standard error as text."""
    mean, error = value
    return f"{mean:.{digits}f} ± {error:.{digits}f}"
