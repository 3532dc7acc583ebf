"""How good the best of N candidates truly is, for one robot and for teams planned for as one robot.

A team of m robots with A actions each is a robot with m A actions: a candidate is one sequence for
every member, and its score the sum of theirs. Candidates of the members are drawn independently, as
a proposal that knows the members alike would draw them, so that nothing but the number of dimensions
changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dmpc_fast.backends.base import Backend, CandidateGroup, PlanRequest
from dmpc_fast.evaluation.continuation import discounted
from dmpc_fast.evaluation.starts import Start
from dmpc_fast.evaluation.truth import TrueFutures
from dmpc_fast.spec import ModelSpec

#: Of the search that tells what could have been found: candidates, how many are kept, and rounds.
REFERENCE_COUNT, REFERENCE_ELITES, REFERENCE_ROUNDS = 256, 24, 12
#: Teams drawn for one curve.
TEAMS = 512


def true_scores(
    spec: ModelSpec, truth: TrueFutures, start: Start, actions: np.ndarray
) -> np.ndarray:
    """Discounted true reward, penalties included, of `actions` (N, F, A) from `start`: (N,)."""
    return discounted(spec, truth.roll(start.physics, actions)).total


def proposed(backend: Backend, request: PlanRequest, count: int) -> np.ndarray:
    """`count` candidates (count, F, A) of the proposal for a request of one robot."""
    group = request.groups[0]
    asked = CandidateGroup(count, group.proposal, group.dynamics)
    return backend.sample(dataclasses.replace(request, groups=(asked,)))[0]


def uniform(spec: ModelSpec, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` sequences (count, F, A) of independent uniform actions within the model's bounds."""
    low, high = bounds(spec)
    shape = (count, spec.horizon, spec.action_size)
    drawn: np.ndarray = rng.uniform(low, high, shape).astype(np.float32)
    return drawn


def reference_score(
    spec: ModelSpec,
    truth: TrueFutures,
    start: Start,
    candidates: np.ndarray,
    rng: np.random.Generator,
) -> float:
    """The best score that the cross-entropy method finds from `candidates` (M, F, A) on, with the
    physics itself as the model: what sampling might have found."""
    low, high = bounds(spec)
    scores = true_scores(spec, truth, start, candidates)
    best, pool = float(scores.max()), candidates
    for _ in range(REFERENCE_ROUNDS):
        elites = pool[np.argsort(-scores)[:REFERENCE_ELITES]]
        mean, deviation = elites.mean(0), elites.std(0) + 1e-3
        drawn = mean + deviation * rng.standard_normal((REFERENCE_COUNT, *mean.shape))
        pool = np.concatenate([elites, np.clip(drawn, low, high)]).astype(np.float32)
        scores = true_scores(spec, truth, start, pool)
        best = max(best, float(scores.max()))
    return best


def best_of_curve(
    scores: np.ndarray,
    baseline: np.ndarray,
    reference: np.ndarray,
    *,
    members: int,
    counts: Sequence[int],
    rng: np.random.Generator,
) -> list[float]:
    """Share of the way from `baseline` to `reference` (starts,) that the best of N candidates goes,
    for each N of `counts`, over teams of `members` starts.

    scores (starts, M): true scores of candidates. The shares are of sums over teams; below 0 where
    the best of N is worse than the baseline. Raises ValueError for counts above M, or references no
    better than the baseline.
    """
    starts, most = scores.shape
    if max(counts) > most:
        raise ValueError(f"counts must be at most {most}, got {max(counts)}")
    gap = float((reference - baseline).mean())
    if not gap > 0:
        raise ValueError(f"the reference must be above the baseline, got a gap of {gap}")
    best = np.zeros(len(counts))
    for _ in range(TEAMS):
        team = rng.integers(0, starts, members)
        total = np.sum([rng.permutation(scores[s] - baseline[s]) for s in team], axis=0)
        best += [total[:count].max() for count in counts]
    shares: list[float] = (best / TEAMS / (gap * members)).tolist()
    return shares


def bounds(spec: ModelSpec) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of actions (A,). Raises ValueError where there is none."""
    low, high = spec.environment.action_low, spec.environment.action_high
    if None in (*low, *high):
        raise ValueError(f"uniform actions need bounds, got {low} and {high}")
    return np.array(low, np.float64), np.array(high, np.float64)
