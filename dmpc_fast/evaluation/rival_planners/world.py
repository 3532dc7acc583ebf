"""What every search is given: proposals, and scores of what actions lead to, from where a robot is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dmpc_fast.backends.base import Backend, CandidateGroup, PlanRequest
from dmpc_fast.spec import ModelSpec

#: (state (S,), actions (N, F, A)) -> states (N, F, S), environment units.
Dynamics = Callable[[np.ndarray, np.ndarray], np.ndarray]


class World:
    """One robot's model, or other dynamics in it, at one moment after another.

    Args:
        spec, engine: a model of history 1 without context, and what runs it.
        seed: key of the random stream of proposals.
        dynamics: what predicts states; None for the file's own dynamics model.

    Attributes:
        low, high: (A,) bounds of actions. evaluated: candidates that were scored since the start.

    Raises ValueError for a model with a longer history or a context, or with an unbounded action.
    """

    def __init__(
        self,
        spec: ModelSpec,
        engine: Backend,
        *,
        seed: int,
        dynamics: Dynamics | None = None,
    ) -> None:
        if spec.history != 1 or spec.context:
            raise ValueError(
                f"searches need a model of history 1 and context 0, got {spec.history} and "
                f"{spec.context}"
            )
        bounds = (*spec.environment.action_low, *spec.environment.action_high)
        if None in bounds:
            raise ValueError(f"searches need bounded actions, got bounds {bounds}")
        self.spec, self._engine, self._seed = spec, engine, seed
        self._dynamics = dynamics
        self.low = np.array(spec.environment.action_low, np.float32)
        self.high = np.array(spec.environment.action_high, np.float32)
        self.evaluated = 0
        self._state = np.zeros((1, 1, spec.state_size), np.float32)
        self._episode, self._index = 0, 0

    def begin(self, episode: int) -> None:
        """Proposals are drawn from stream `episode` from now on."""
        self._episode, self._index = episode, 0

    def observe(self, state: np.ndarray) -> None:
        """The robot is in `state` (S,) now."""
        self._state = np.ascontiguousarray(state, np.float32).reshape(1, 1, -1)
        self._index += 1

    def propose(self, count: int) -> np.ndarray:
        """Candidates (count, F, A) of the proposal, within the bounds."""
        return self._engine.sample(self._request(count, self.spec.action_size))[0]

    def scores(self, actions: np.ndarray) -> np.ndarray:
        """The learned objective (N,) of `actions` (N, F, A), which must keep to the bounds."""
        batch = np.ascontiguousarray(actions[None], np.float32)
        states = np.ascontiguousarray(self.predict(batch[0])[None], np.float32)
        self.evaluated += len(actions)
        request = self._request(len(actions), self.spec.action_size)
        scores: np.ndarray = self._engine.score(request, states, batch)[0][0].astype(np.float64)
        return scores

    def predict(self, actions: np.ndarray) -> np.ndarray:
        """The states (N, F, S) that `actions` (N, F, A), which must keep to the bounds, lead to."""
        if self._dynamics is not None:
            return self._dynamics(self._state[0, 0], actions)
        request = self._request(len(actions), self.spec.action_size)
        return self._engine.predict(request, np.ascontiguousarray(actions[None], np.float32))[0]

    def _request(self, count: int, size: int) -> PlanRequest:
        """A request for `count` candidates of actions of `size`."""
        return PlanRequest(
            states=self._state,
            actions=np.zeros((1, 0, size), np.float32),
            mask=np.zeros((1, 0), np.float32),
            context=np.zeros((1, 0), np.float32),
            seed=self._seed,
            robots=np.array([self._episode], np.int64),
            plan_index=np.array([self._index], np.int64),
            groups=(CandidateGroup(count),),
        )
