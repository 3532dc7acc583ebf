"""What the planner remembers of each robot between actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from dmpc_fast.spec import ModelSpec


@dataclass(frozen=True)
class History:
    """The H - 1 steps before now, oldest first; zero and masked before an episode's start.

    states (B, H-1, S), actions (B, H-1, A), mask (B, H-1); float32, never written to.
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
        if not self.mask.shape[1]:
            return states[:, None]
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

    def replaced(self, robots: np.ndarray, rows: History) -> History:
        """The history with those robots' rows in place of their own."""
        pairs = (
            (self.states, rows.states),
            (self.actions, rows.actions),
            (self.mask, rows.mask),
        )
        arrays = [own.copy() for own, _ in pairs]
        for array, (_, new) in zip(arrays, pairs, strict=True):
            array[robots] = new
        return History(*arrays)


class Turn(NamedTuple):
    """What robots that act together are in: their slots (B,), present states (B, S), contexts
    (B, size), and what went before."""

    slots: np.ndarray
    states: np.ndarray
    contexts: np.ndarray
    history: History

    def part(self, rows: np.ndarray) -> Turn:
        """That of the robots in these rows, which ascend."""
        if len(rows) == len(self.slots):
            return self
        return Turn(
            self.slots[rows], self.states[rows], self.contexts[rows], self.history.rows(rows)
        )


class Expectation(NamedTuple):
    """What plans in progress predict of the next observation.

    states: (B, S), or (S,) of a single robot; NaN where there is no plan. steps: (B,), or an int:
    which step of its plan each state is, from 0; -1 where there is no plan.
    """

    states: np.ndarray
    steps: Any


class Robots:
    """History, plan in progress and place in the random stream of B robots.

    everyone: all robots in order; given this very array, methods are quicker than for a choice.
    plans: chosen actions (B, F, A) of each robot's latest plan. predicted: the states (B, F, S) that
    it predicts. executed: how many of its actions have run; `no_plan`, more than it has, where there
    is no such plan. plan_index: plans made since the reset. streams: the robots' numbers in the
    random stream.
    """

    def __init__(self, count: int, spec: ModelSpec) -> None:
        self._spec = spec
        self.everyone = np.arange(count)
        self.everyone.setflags(write=False)
        self.history = History.empty(count, spec)
        self.plans = np.zeros((count, spec.horizon, spec.action_size), np.float32)
        self.predicted = np.zeros((count, spec.horizon, spec.state_size), np.float32)
        self.no_plan = spec.horizon + 1
        self.executed = np.full(count, self.no_plan)
        self.plan_index = np.zeros(count, np.int64)
        self.streams = np.arange(count, dtype=np.int64)

    def turn(self, robots: np.ndarray, states: np.ndarray, contexts: np.ndarray) -> Turn:
        """The turn of `robots`, now in `states` (B, S) and `contexts` (B, size)."""
        history = self.history if robots is self.everyone else self.history.rows(robots)
        return Turn(robots, states, contexts, history)

    def due(self, robots: np.ndarray, action_chunk: int) -> np.ndarray:
        """Which of `robots` need a plan before they can act: their places in that array."""
        return (self.executed[self._index(robots)] >= action_chunk).nonzero()[0]

    def follow(self, robots: np.ndarray, plans: np.ndarray, predicted: np.ndarray) -> None:
        """Begin new plans (len(robots), F, A), which predict states (len(robots), F, S); a single
        robot's may lack the first dimension."""
        chosen = self._index(robots)
        self.plans[chosen] = plans
        self.predicted[chosen] = predicted
        self.executed[chosen] = 0
        self.plan_index[chosen] += 1

    def step(self, turn: Turn) -> np.ndarray:
        """The next actions of the plans of the robots whose turn it is, which are taken to run now."""
        actions: np.ndarray = self.plans[turn.slots, self.executed.take(turn.slots)]
        self.executed[self._index(turn.slots)] += 1
        self._push(turn, actions)
        return actions

    def depart(self, turn: Turn, actions: np.ndarray) -> None:
        """The robots whose turn it is run `actions` (B, A) that are of no plan: the plans in
        progress, which led elsewhere, are over."""
        self.executed[self._index(turn.slots)] = self.no_plan
        self._push(turn, actions)

    def expectation(self) -> Expectation:
        """What each robot's plan predicts to follow its latest action: (B, S) and (B,)."""
        begun = (self.executed > 0) & (self.executed != self.no_plan)
        steps = np.where(begun, self.executed - 1, -1)
        states = self.predicted[np.arange(len(steps)), steps].copy()
        states[~begun] = np.nan
        return Expectation(states, steps)

    def reset(self, robots: np.ndarray, streams: np.ndarray) -> None:
        self.history = self.history.replaced(robots, History.empty(len(robots), self._spec))
        self.executed[robots] = self.no_plan
        self.plan_index[robots] = 0
        self.streams[robots] = streams

    def _push(self, turn: Turn, actions: np.ndarray) -> None:
        pushed = turn.history.pushed(turn.states, actions)
        everyone = turn.slots is self.everyone
        self.history = pushed if everyone else self.history.replaced(turn.slots, pushed)

    def _index(self, robots: np.ndarray) -> np.ndarray | slice:
        """What chooses `robots` of an array: a slice, where it can, is several times as fast."""
        return slice(None) if robots is self.everyone else robots
