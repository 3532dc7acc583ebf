"""Searches over action sequences: sample-score-rank, and what others do in its place.

All see the same `World`: the same proposals, dynamics and objective. `previous` is the last plan,
shifted to the present step, or None. Each gives the sequence (F, A) to run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dmpc_fast.evaluation.rival_planners.world import World


class Search(Protocol):
    """One way to turn candidates into a plan."""

    def plan(
        self, world: World, previous: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        """The sequence (F, A) to run now."""
        ...


@dataclass(frozen=True)
class SampleScoreRank:
    """The best of `count` proposals, or the mean of the best `elites` (D-MPC, Zhou et al. 2025)."""

    count: int
    elites: int = 1

    def plan(
        self, world: World, previous: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        actions = world.propose(self.count)
        return actions[_best(world.scores(actions), self.elites)].mean(0)


@dataclass(frozen=True)
class RandomShooting:
    """The best of `count` sequences of independent actions: uniform within the bounds, or Gaussian
    around their middle with `deviation` half ranges, clipped."""

    count: int
    deviation: float | None = None

    def plan(
        self, world: World, previous: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        shape = (self.count, world.spec.horizon, world.spec.action_size)
        if self.deviation is None:
            actions = rng.uniform(world.low, world.high, shape)
        else:
            middle, half = _middle(world)
            actions = _clipped(world, middle + self.deviation * half * rng.standard_normal(shape))
        chosen: np.ndarray = actions[world.scores(actions).argmax()]
        return chosen


@dataclass(frozen=True)
class MbopTrajectoryOptimiser:
    """MBOP's optimiser (Argenson & Dulac-Arnold 2021, algorithm 2) on multi-step proposals.

    Proposals get noise of `deviation` half ranges and are mixed with the previous plan, whose share
    is `mixing`; the mean of all runs, weighted by exp(sharpness * score), scores standardised over
    the candidates.
    """

    count: int
    deviation: float = 0.2
    mixing: float = 0.2
    sharpness: float = 3.0

    def plan(
        self, world: World, previous: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        actions = world.propose(self.count)
        noise = rng.standard_normal(actions.shape)
        actions = actions + self.deviation * _middle(world)[1] * noise
        if previous is not None:
            actions = (1 - self.mixing) * actions + self.mixing * previous
        actions = _clipped(world, actions)
        return _weighted(actions, world.scores(actions), self.sharpness)


@dataclass(frozen=True)
class CrossEntropy:
    """The cross-entropy method: a Gaussian for each action, refitted to its best samples.

    It begins around the previous plan, or the middle of the bounds, half a range wide; or, with
    `from_proposals`, with proposals as its first round. rounds: that `count` is divided among.
    elite_share: of a round that is fitted to. Its last mean runs.
    """

    count: int
    rounds: int = 4
    elite_share: float = 0.125
    from_proposals: bool = False

    def plan(
        self, world: World, previous: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        middle, half = _middle(world)
        shape = (world.spec.horizon, world.spec.action_size)
        mean = np.broadcast_to(middle, shape) if previous is None else previous
        deviation = np.broadcast_to(half, shape)
        size = max(2, self.count // self.rounds)
        for number in range(self.rounds):
            if number == 0 and self.from_proposals:
                actions = world.propose(size)
            else:
                noise = rng.standard_normal((size, *shape))
                actions = _clipped(world, mean + deviation * noise)
            elites = actions[_best(world.scores(actions), max(2, round(self.elite_share * size)))]
            mean, deviation = elites.mean(0), elites.std(0)
        return mean


@dataclass(frozen=True)
class Mppi:
    """Model-predictive path integral control (Williams et al. 2017), one round per plan.

    Samples around the previous plan, `deviation` half ranges wide, are averaged with weights
    exp(sharpness * score), scores standardised. With `from_proposals` half of the samples are
    proposals.
    """

    count: int
    deviation: float = 0.5
    sharpness: float = 3.0
    from_proposals: bool = False

    def plan(
        self, world: World, previous: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        middle, half = _middle(world)
        shape = (world.spec.horizon, world.spec.action_size)
        mean = np.broadcast_to(middle, shape) if previous is None else previous
        proposed = self.count // 2 if self.from_proposals else 0
        noise = rng.standard_normal((self.count - proposed, *shape))
        actions = _clipped(world, mean + self.deviation * half * noise)
        if proposed:
            actions = np.concatenate([actions, world.propose(proposed)])
        return _weighted(actions, world.scores(actions), self.sharpness)


def _middle(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half range (A,) of the bounds."""
    return (world.low + world.high) / 2, (world.high - world.low) / 2


def _clipped(world: World, actions: np.ndarray) -> np.ndarray:
    clipped: np.ndarray = np.clip(actions, world.low, world.high).astype(np.float32)
    return clipped


def _best(scores: np.ndarray, count: int) -> np.ndarray:
    order: np.ndarray = np.argsort(-scores, kind="stable")[:count]
    return order


def _weighted(actions: np.ndarray, scores: np.ndarray, sharpness: float) -> np.ndarray:
    spread = scores.std()
    weights = np.exp(sharpness * (scores - scores.max()) / (spread if spread > 0 else 1.0))
    mean: np.ndarray = np.tensordot(weights / weights.sum(), actions, 1)
    return mean
