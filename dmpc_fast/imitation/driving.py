"""Episodes in which a planner says in every state what it would do, whoever drives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dmpc_fast.imitation.decisions import Decisions
from dmpc_fast.normalizer import Normalizer, condition_vector
from dmpc_fast.philox import MAX_ROBOT

#: Conditions (B, C) -> actions (B, A) in environment units, within the bounds.
Act = Callable[[np.ndarray], np.ndarray]


class LabelledDriving:
    """A policy of `run_rollouts` that keeps the planner's decision in every state.

    Args:
        planner: of as many robots as there are slots, planning anew in every state.
        normalizer: of its model.
        act: who drives the episodes that the planner does not; None where it drives them all.
        expert_share: of episodes, drawn by their number and `seed`, that the planner drives.
        heard: told of every state that was added.
    """

    def __init__(
        self,
        planner: Any,
        normalizer: Normalizer,
        act: Act | None,
        *,
        expert_share: float,
        seed: int,
        heard: Callable[[int], object] = lambda count: None,
    ) -> None:
        if planner.action_chunk != 1:
            raise ValueError(f"the planner must plan in every state, got {planner.action_chunk=}")
        self._planner, self._normalizer, self._act = planner, normalizer, act
        self._share, self._seed, self._heard = expert_share, seed, heard
        size = planner.spec.action_size
        self._ran = np.zeros((planner.num_robots, size), np.float32)
        self._expert = np.ones(planner.num_robots, bool)
        self._conditions: list[np.ndarray] = []
        self._actions: list[np.ndarray] = []
        self.count = 0

    def start(self, slot: int, episode: int) -> None:
        self._planner.reset(robots=[slot], stream_ids=[episode % (MAX_ROBOT + 1)])
        self._ran[slot] = 0
        drawn = np.random.default_rng([self._seed, episode]).random()
        self._expert[slot] = self._act is None or drawn < self._share

    def act(self, slots: np.ndarray, observations: np.ndarray) -> np.ndarray:
        labels = self._planner.act(observations, previous_action=self._ran[slots], robots=slots)
        conditions = self._seen()
        self._conditions.append(conditions)
        self._actions.append(labels.copy())
        self.count += len(slots)
        self._heard(len(slots))
        actions: np.ndarray = labels
        if self._act is not None:
            own = ~self._expert[slots]
            if own.any():
                actions = labels.copy()
                actions[own] = self._act(conditions[own])
        self._ran[slots] = actions
        return actions

    def decisions(self) -> Decisions:
        """All that was kept, in the order in which it was seen."""
        return Decisions(np.concatenate(self._conditions), np.concatenate(self._actions))

    def _seen(self) -> np.ndarray:
        """The conditions that the latest plan was made in, (B, C)."""
        requests = self._planner.last_plan.origin.requests
        count = sum(len(rows) for rows, _ in requests)
        conditions = np.empty((count, self._planner.spec.condition_size), np.float32)
        for rows, request in requests:
            conditions[rows] = condition_vector(
                self._normalizer, request.states, request.actions, request.mask, request.context
            )
        return conditions
