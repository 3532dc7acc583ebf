"""What the planner remembers of each robot between actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dmpc_fast.spec import ModelSpec


@dataclass(frozen=True)
class History:
    """The H - 1 steps before now, oldest first; zero and masked before an episode's start.

    states (B, H-1, S), actions (B, H-1, A), mask (B, H-1); float32.
    """

    states: np.ndarray
    actions: np.ndarray
    mask: np.ndarray

    @classmethod
    def empty(cls, robots: int, spec: ModelSpec) -> History:
        past = spec.history - 1
        return cls(
            np.zeros((robots, past, spec.state_size), np.float32),
            np.zeros((robots, past, spec.action_size), np.float32),
            np.zeros((robots, past), np.float32),
        )

    def with_last_action(self, actions: np.ndarray) -> History:
        """The history had `actions` (B, A) run last; where it is empty, nothing ran."""
        replaced = self.actions.copy()
        if replaced.shape[1]:
            replaced[:, -1] = np.where(self.mask[:, -1:] > 0, actions, replaced[:, -1])
        return History(self.states, replaced, self.mask)

    def window(self, states: np.ndarray) -> np.ndarray:
        """Past and present states (B, H, S) for the present ones (B, S)."""
        return np.concatenate([self.states, states[:, None]], axis=1)

    def pushed(self, states: np.ndarray, actions: np.ndarray) -> History:
        """The history one step later: in `states` (B, S), `actions` (B, A) are run."""
        if not self.mask.shape[1]:
            return self
        present = np.ones((len(states), 1), np.float32)
        return History(
            np.concatenate([self.states[:, 1:], states[:, None]], axis=1),
            np.concatenate([self.actions[:, 1:], actions[:, None]], axis=1),
            np.concatenate([self.mask[:, 1:], present], axis=1),
        )

    def rows(self, robots: np.ndarray) -> History:
        """A copy of some robots' histories, in that order."""
        return History(self.states[robots], self.actions[robots], self.mask[robots])

    def replace(self, robots: np.ndarray, rows: History) -> None:
        """Overwrite those robots' histories with `rows`."""
        self.states[robots] = rows.states
        self.actions[robots] = rows.actions
        self.mask[robots] = rows.mask


class Expectation(NamedTuple):
    """What plans in progress predict of the next observation.

    states: (B, S), or (S,) of a single robot; NaN where there is no plan. steps: (B,), or an int:
    which step of its plan each state is, from 0; -1 where there is no plan.
    """

    states: np.ndarray
    steps: Any


class Robots:
    """History, plan in progress and place in the random stream of B robots.

    plans: chosen actions (B, F, A) of each robot's latest plan. predicted: the states (B, F, S) that
    it predicts. executed: how many of them have run.
    planned: whether there is such a plan. plan_index: plans made since the reset. streams: the
    robots' numbers in the random stream.
    """

    def __init__(self, count: int, spec: ModelSpec) -> None:
        self._spec = spec
        self.history = History.empty(count, spec)
        self.plans = np.zeros((count, spec.horizon, spec.action_size), np.float32)
        self.predicted = np.zeros((count, spec.horizon, spec.state_size), np.float32)
        self.executed = np.zeros(count, np.int64)
        self.planned = np.zeros(count, bool)
        self.plan_index = np.zeros(count, np.int64)
        self.streams = np.arange(count, dtype=np.int64)

    def due(self, robots: np.ndarray, action_chunk: int) -> np.ndarray:
        """Which of `robots` need a plan before they can act: their places in that array."""
        return np.flatnonzero(~self.planned[robots] | (self.executed[robots] >= action_chunk))

    def follow(self, robots: np.ndarray, plans: np.ndarray, predicted: np.ndarray) -> None:
        """Begin new plans (len(robots), F, A), which predict states (len(robots), F, S)."""
        self.plans[robots] = plans
        self.predicted[robots] = predicted
        self.executed[robots] = 0
        self.planned[robots] = True
        self.plan_index[robots] += 1

    def step(self, robots: np.ndarray, states: np.ndarray, history: History) -> np.ndarray:
        """The next actions of `robots`, which are taken to run now in `states` after `history`."""
        actions: np.ndarray = self.plans[robots, self.executed[robots]]
        self.executed[robots] += 1
        self.history.replace(robots, history.pushed(states, actions))
        return actions

    def depart(
        self, robots: np.ndarray, states: np.ndarray, history: History, actions: np.ndarray
    ) -> None:
        """In `states` after `history`, `robots` run `actions` (B, A) that are of no plan: the plans
        in progress, which led elsewhere, are over."""
        self.planned[robots] = False
        self.history.replace(robots, history.pushed(states, actions))

    def expectation(self) -> Expectation:
        """What each robot's plan predicts to follow its latest action: (B, S) and (B,)."""
        begun = self.planned & (self.executed > 0)
        steps = np.where(begun, self.executed - 1, -1)
        states = self.predicted[np.arange(len(steps)), steps].copy()
        states[~begun] = np.nan
        return Expectation(states, steps)

    def reset(self, robots: np.ndarray, streams: np.ndarray) -> None:
        self.history.replace(robots, History.empty(len(robots), self._spec))
        self.planned[robots] = False
        self.executed[robots] = 0
        self.plan_index[robots] = 0
        self.streams[robots] = streams
