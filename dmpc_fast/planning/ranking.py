"""Which candidate is best: by the backend's fused plan, or by a user's callable between its stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dmpc_fast import objectives
from dmpc_fast.backends.base import Backend, PlanRequest, PlanResult

#: (history (H, S+A), states (N, F, S), actions (N, F, A)) -> scores (N,), environment units. Row i of
#: the history is a state and the action run in it; the last row is the present state and zeros.
Objective = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]


def rank(backend: Backend, request: PlanRequest, objective: Objective | None) -> PlanResult:
    """The request's candidates, ranked by its terms, or by `objective` robot by robot."""
    if objective is None:
        return backend.plan(request)
    actions = backend.sample(request)
    states = backend.predict(request, actions)
    unknown = np.zeros_like(actions[:, 0, :1])
    past = np.concatenate([request.actions, unknown], axis=1)
    history = np.concatenate([request.states, past], axis=-1)
    scores = np.stack(
        [
            _custom_scores(objective, *(part.copy() for part in parts))
            for parts in zip(history, states, actions, strict=True)
        ]
    )
    nothing = np.zeros_like(scores)
    best = objectives.best_candidate(scores, nothing, nothing)
    return PlanResult(best, actions, states, scores, nothing)


def merge(results: Sequence[PlanResult], rows: Sequence[np.ndarray]) -> PlanResult:
    """The arrays but `levels` of several results, each of which holds the robots in its `rows`."""
    if len(results) == 1:
        return results[0]
    order = np.argsort(np.concatenate(rows))

    def joined(name: str) -> np.ndarray:
        together: np.ndarray = np.concatenate([getattr(result, name) for result in results])[order]
        return together

    return PlanResult(
        joined("best"),
        joined("actions"),
        joined("states"),
        joined("scores"),
        joined("violations"),
    )


def _custom_scores(
    objective: Objective, history: np.ndarray, states: np.ndarray, actions: np.ndarray
) -> np.ndarray:
    name, count = objective_name(objective), len(actions)
    scores = np.asarray(objective(history, states, actions))
    if scores.shape != (count,) or scores.dtype.kind not in "fiu":
        raise ValueError(
            f"the objective {name} must return {count} numbers of shape ({count},), got "
            f"{scores.dtype} of shape {scores.shape}"
        )
    if np.isnan(scores).any():
        where = int(np.flatnonzero(np.isnan(scores))[0])
        raise ValueError(f"the objective {name} gave NaN for candidate {where}")
    return scores.astype(np.float64)


def objective_name(objective: Objective) -> str:
    """What errors and records call it."""
    return str(getattr(objective, "__qualname__", type(objective).__qualname__))
