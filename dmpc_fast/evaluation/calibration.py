"""How well candidates are ranked, and what the return of the chosen one owes to that.

A return here is true and discounted, over F steps and a continuation (`continuation.py`), with the
termination penalty. It is that of the whole candidate, which is what the objective estimates; the
return of its first chunk alone, which is what a planner that replans executes, stands beside it.
Each candidate has two, under two continuations. An oracle picks by one and is
paid by the other, so that it profits from what a candidate is and not from luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dmpc_fast.evaluation.probe import Probe
from dmpc_fast.statistics import rank_correlation

#: Ways to choose a candidate, from what the planner knows to what only the simulator knows: the
#: objective on predicted states (the planner's choice), on true states, true rewards and ends with
#: the learned value of the true last state, and the true return.
CHOICES = ("predicted", "true_states", "true_rewards", "oracle")


def rank_correlations(probe: Probe) -> dict[str, float]:
    """Spearman's correlations over the candidates of one start; NaN where one side is constant.

    J_<states>_with_<truth>: the objective on those states with `with_value` (value) or with the mean
    of both returns (return). reward, termination, value: each part on predicted states with its
    own truth, that of the value being what followed the candidates still going; value_true_states
    likewise. predicted_with_true_states: J with itself. repeatability: one return with the other.
    """
    returns, going = probe.returns.mean(0), probe.going
    followed = probe.continued.mean(0)
    predicted, true = probe.by_predicted, probe.by_true
    return {
        "J_predicted_with_return": rank_correlation(predicted.total, returns),
        "J_true_states_with_return": rank_correlation(true.total, returns),
        "true_rewards_with_return": rank_correlation(probe.with_value, returns),
        "repeatability": rank_correlation(*probe.returns),
        "J_predicted_with_value": rank_correlation(predicted.total, probe.with_value),
        "J_true_states_with_value": rank_correlation(true.total, probe.with_value),
        "predicted_with_true_states": rank_correlation(predicted.total, true.total),
        "reward": rank_correlation(predicted.reward, probe.rewards.reward),
        "termination": rank_correlation(predicted.termination, probe.rewards.termination),
        "value": _over(going, predicted.value, followed),
        "value_true_states": _over(going, true.value, followed),
    }


def _over(rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> float:
    return rank_correlation(first[rows], second[rows]) if rows.any() else math.nan


def sample_counts(candidates: int) -> list[int]:
    """1, 4, 16, ... up to the number of candidates, which comes last."""
    counts = [4**power for power in range(10) if 4**power < candidates]
    return [*counts, candidates]


def chosen_return(probe: Probe, choice: str, count: int, *, executed: bool = False) -> float:
    """Mean return of the candidate that `choice` (see `CHOICES`) picks out of `count`.

    The mean goes over all disjoint blocks of `count` candidates. executed: of the first chunk of the
    candidate alone, instead of the whole.
    """
    returns = probe.executed_returns if executed else probe.returns
    if choice == "oracle":
        return oracle_return(returns, count)
    scores = {
        "predicted": probe.by_predicted.total,
        "true_states": probe.by_true.total,
        "true_rewards": probe.with_value,
    }[choice]
    return best_of_blocks(scores, returns.mean(0), count)


def oracle_return(returns: np.ndarray, count: int) -> float:
    """Return of the best of `count` by one continuation, paid by the other; returns (2, M)."""
    first, second = returns
    return (best_of_blocks(first, second, count) + best_of_blocks(second, first, count)) / 2


def best_of_blocks(by: np.ndarray, paid: np.ndarray, count: int) -> float:
    """Mean of `paid` (M,) at the largest `by` (M,) of each block of `count`; a rest is left out."""
    blocks = len(by) // count
    if not blocks:
        raise ValueError(f"blocks of {count} need as many candidates, got {len(by)}")
    grouped = by[: blocks * count].reshape(blocks, count)
    best = grouped.argmax(1) + count * np.arange(blocks)
    return float(paid[best].mean())


def gain_curves(
    probes: Sequence[Probe], counts: Sequence[int], *, executed: bool = False
) -> dict[str, np.ndarray]:
    """Return of the choice out of `counts` candidates: (starts, counts) for each of `CHOICES`."""

    def curve(probe: Probe, choice: str) -> list[float]:
        return [chosen_return(probe, choice, count, executed=executed) for count in counts]

    return {choice: np.array([curve(p, choice) for p in probes]) for choice in CHOICES}
