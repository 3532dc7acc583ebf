"""Objective terms as the rows of numbers that scoring kernels read, those of Triton and of CUDA."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dmpc_fast.objectives import (
    LEARNED_OBJECTIVE,
    ActionCost,
    Alive,
    GaussianTarget,
    LearnedReward,
    LearnedValue,
    QuadraticTarget,
    Speed,
    StateBound,
    Term,
)

#: In the order of their numbers, as in kernels/scoring.py and csrc/cuda/params.hpp.
TERM_KINDS = ("reward", "value", "alive", "gaussian", "quadratic", "speed", "action", "bound")
TERM_COLUMNS = 6

_KINDS: dict[type, str] = {
    LearnedReward: "reward",
    LearnedValue: "value",
    Alive: "alive",
    GaussianTarget: "gaussian",
    QuadraticTarget: "quadratic",
    Speed: "speed",
    ActionCost: "action",
    StateBound: "bound",
}


def term_rows(terms: Sequence[Term] | None, penalty: float) -> np.ndarray:
    """Float32 (count, 6) of an objective; penalty: the model's, of being stopped."""
    rows = [_row(term, penalty) for term in (LEARNED_OBJECTIVE if terms is None else terms)]
    array = np.array(rows, np.float32)
    assert array.shape[1] == TERM_COLUMNS
    return array


def _row(term: Term, penalty: float) -> tuple[float, ...]:
    kind = TERM_KINDS.index(_KINDS[type(term)])
    if isinstance(term, StateBound):
        low = -math.inf if term.low is None else term.low
        high = math.inf if term.high is None else term.high
        return kind, term.index, 0.0, low, high, 0.0
    first, second = getattr(term, "target", 0.0), 0.0
    if isinstance(term, Alive):
        first = penalty
    if isinstance(term, GaussianTarget):
        second = 2.0 * term.variance
    log_weight = math.log(abs(term.weight)) if term.weight else 0.0
    return kind, getattr(term, "index", 0), term.weight, first, second, log_weight
