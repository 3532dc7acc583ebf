"""What can drive the robots of a rollout: a planner, or chance."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from dmpc_fast.objectives import Term
from dmpc_fast.philox import MAX_ROBOT

#: A planner's objective: None for the learned one, a list of terms, or a function of candidates.
Objective = Callable[..., np.ndarray] | Sequence[Term] | None


@dataclass(frozen=True)
class PlannerSettings:
    """How to load a planner; None leaves the choice to the model file. Sent to worker processes."""

    model: Path
    backend: str = "auto"
    dtype: str = "float32"
    num_samples: int | None = None
    action_chunk: int | None = None
    num_elites: int | None = None
    objective: Objective = None
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    def load(self, num_robots: int) -> Any:
        """A `Planner` for `num_robots` robots."""
        from dmpc_fast.planning.planner import Planner

        planner = Planner.load(
            self.model,
            backend=self.backend,
            dtype=self.dtype,
            seed=self.seed,
            num_robots=num_robots,
            num_samples=self.num_samples,
            action_chunk=self.action_chunk,
            num_elites=self.num_elites,
            **self.options,
        )
        if self.objective is not None:
            planner.set_objective(self.objective)
        return planner


@dataclass
class PlanTimes:
    """Seconds that each plan took, and for how many robots it was made; the first plan of a
    planner, which warms everything up, is left out."""

    seconds: list[float] = field(default_factory=list)
    robots: list[int] = field(default_factory=list)

    def extend(self, other: PlanTimes) -> None:
        self.seconds.extend(other.seconds)
        self.robots.extend(other.robots)


class PlannerPolicy:
    """One planner for all slots; what its plans take goes into `times`."""

    def __init__(self, planner: Any, times: PlanTimes) -> None:
        self.planner, self.times = planner, times
        self._cold = True

    def start(self, slot: int, episode: int) -> None:
        # The stream's number is the episode's: its plans are the same in whatever slot it runs.
        self.planner.reset(robots=[slot], stream_ids=[episode % (MAX_ROBOT + 1)])

    def act(self, slots: np.ndarray, observations: np.ndarray) -> np.ndarray:
        before = self.planner.last_plan
        start = time.perf_counter()
        actions: np.ndarray = self.planner.act(observations, robots=slots)
        seconds = time.perf_counter() - start
        if self.planner.mode == "policy":
            self.times.seconds.append(seconds)
            self.times.robots.append(len(slots))
        elif self.planner.last_plan is not before:
            if not self._cold:
                self.times.seconds.append(seconds)
                self.times.robots.append(len(self.planner.last_planned))
            self._cold = False
        return actions


class RandomPolicy:
    """Uniform actions within the bounds, from one random stream per episode.

    Raises ValueError where an action has no bounds.
    """

    def __init__(self, space: gymnasium.spaces.Box, seed: int) -> None:
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise ValueError(f"random actions need a bounded action space, got {space}")
        self._low, self._high = space.low.reshape(-1), space.high.reshape(-1)
        self._seed = seed
        self._streams: dict[int, np.random.Generator] = {}

    def start(self, slot: int, episode: int) -> None:
        self._streams[slot] = np.random.default_rng([self._seed, episode])

    def act(self, slots: np.ndarray, observations: np.ndarray) -> np.ndarray:
        draws = [self._streams[int(slot)].uniform(self._low, self._high) for slot in slots]
        return np.stack(draws).astype(np.float32)
