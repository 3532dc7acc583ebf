"""Windows of episodes: what happened before a step, and what followed.

A window is placed at every action step t of the chosen episodes. It holds H states up to s_t, the
H - 1 actions between them, and the next F actions, rewards and states. Nothing is invented: past an
episode's end, and before its start, arrays are zero and a mask says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dmpc_fast.data.episodes import EpisodeStore
from dmpc_fast.data.moments import Moments
from dmpc_fast.normalizer import Normalizer

#: Steps that one pass over the data holds in memory at a time.
CHUNK_STEPS = 1 << 16


class WindowBatch(NamedTuple):
    """B windows in environment units; float32 and C-contiguous unless said otherwise.

    states (B, H, S): oldest first, the last is s_t. past_actions (B, H-1, A). mask (B, H-1): 1
    where the history is real, 0 before the episode's start. actions (B, F, A): a_t ...
    next_states (B, F, S): s_{t+1} ... rewards (B, F). valid (B, F) bool: False past the episode's end.
    continues (B, F): 0 at a terminating step, 1 elsewhere. value (B,): discounted return-to-go of
    s_{t+F}, 0 where value_valid (B,) bool is False.
    """

    states: np.ndarray
    past_actions: np.ndarray
    mask: np.ndarray
    actions: np.ndarray
    next_states: np.ndarray
    rewards: np.ndarray
    valid: np.ndarray
    continues: np.ndarray
    value: np.ndarray
    value_valid: np.ndarray


class Windows:
    """One window per action step of the chosen episodes, drawn in batches by index.

    horizon, history: F and H. discount: in (0, 1]. termination_penalty: subtracted, discounted,
    from a return that ends in a termination. episodes: indices into the store, all by default.
    value_tail: the return-to-go of a truncated episode counts as a value only where the discount
    has shrunk what is missing to this share. Raises ValueError for settings out of range.
    """

    def __init__(
        self,
        store: EpisodeStore,
        *,
        horizon: int,
        history: int = 1,
        discount: float,
        termination_penalty: float,
        episodes: np.ndarray | None = None,
        value_tail: float = 0.1,
    ) -> None:
        if horizon < 1 or history < 1:
            raise ValueError(f"horizon and history must be at least 1, got {horizon}, {history}")
        if not 0 < discount <= 1:
            raise ValueError(f"discount must be above 0 and at most 1, got {discount}")
        if not 0 < value_tail < 1:
            raise ValueError(f"value_tail must be between 0 and 1, got {value_tail}")
        if not math.isfinite(termination_penalty):
            raise ValueError(f"termination_penalty must be finite, got {termination_penalty}")
        self.store, self.horizon, self.history = store, horizon, history
        self.discount, self.termination_penalty = discount, termination_penalty
        self.episodes = _checked_episodes(store, episodes)
        # Views without the memmap class, whose every slice costs a Python call.
        self._observations = np.asarray(store.observations)
        self._actions = np.asarray(store.actions)
        self._rewards = np.asarray(store.rewards)
        self._starts = np.asarray(store.offsets[:-1])[self.episodes]
        self._ends = np.asarray(store.offsets[1:])[self.episodes]
        self._terminations = np.asarray(store.terminations)[self.episodes]
        self._firsts = np.concatenate([[0], np.cumsum(self._ends - self._starts)])
        # Steps of data that must follow a state for its return-to-go to count as a value.
        required = math.log(value_tail) / math.log(discount) if discount < 1 else math.inf
        required = max(1, math.ceil(required)) if required < 1 << 60 else 1 << 60
        self._value_ends = np.where(
            self._terminations, self._ends, np.maximum(self._ends + 1 - required, self._starts)
        )
        self._returns = self._returns_to_go()

    def __len__(self) -> int:
        return int(self._firsts[-1])

    @property
    def returns(self) -> np.ndarray:
        """Discounted return-to-go of the behaviour from each window's s_t, (N,) float32.

        It includes the termination penalty; that of a truncated episode stops where its data do.
        """
        return self._returns

    @property
    def episode_returns(self) -> np.ndarray:
        """Undiscounted return of the episode that each window is from, (N,) float64."""
        pairs = zip(self._starts, self._ends, strict=True)
        totals = np.array([self._rewards[a:b].sum(dtype=np.float64) for a, b in pairs])
        return np.repeat(totals, self._ends - self._starts)

    @property
    def ages(self) -> np.ndarray:
        """Steps from the start of its episode to each window's s_t, (N,) int64."""
        lengths = self._ends - self._starts
        return np.arange(len(self)) - np.repeat(self._firsts[:-1], lengths)

    def batch(self, indices: np.ndarray) -> WindowBatch:
        """The windows at `indices` (B,), each from 0 to len - 1; raises IndexError for others."""
        index = np.asarray(indices, np.int64).reshape(-1)
        if len(index) and (index.min() < 0 or index.max() >= len(self)):
            raise IndexError(
                f"window indices must be from 0 to {len(self) - 1}, got {index.min()} to "
                f"{index.max()}"
            )
        which = np.searchsorted(self._firsts, index, side="right") - 1
        step = self._starts[which] + index - self._firsts[which]
        past, future = self._past(which, step), self._future(which, step)
        return WindowBatch(*past, *future, *self._values(which, step, index))

    def following(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices (B,) of the windows that begin where those at `indices` end, and (B,) bool: whether
        there is one. Where there is none the index is the window's own."""
        index = np.asarray(indices, np.int64).reshape(-1)
        which = np.searchsorted(self._firsts, index, side="right") - 1
        exists = index + self.horizon < self._firsts[which + 1]
        return np.where(exists, index + self.horizon, index), exists

    def _past(
        self, which: np.ndarray, step: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        row = step + self.episodes[which]
        if self.history == 1:
            states = np.take(self._observations, row[:, None], axis=0)
            count, size = len(step), self._actions.shape[1]
            return states, np.zeros((count, 0, size), np.float32), np.zeros((count, 0), np.float32)
        back = np.arange(1 - self.history, 0)
        real = step[:, None] + back >= self._starts[which][:, None]
        shift = np.where(real, back, 0)
        states = np.take(self._observations, row[:, None] + np.pad(shift, ((0, 0), (0, 1))), axis=0)
        past_actions = np.take(self._actions, step[:, None] + shift, axis=0)
        states[:, :-1][~real] = 0
        past_actions[~real] = 0
        return states, past_actions, real.astype(np.float32)

    def _future(
        self, which: np.ndarray, step: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        end = self._ends[which]
        steps = step[:, None] + np.arange(self.horizon)
        valid = steps < end[:, None]
        whole = bool(valid.all())
        if not whole:
            steps = np.minimum(steps, end[:, None] - 1)
        actions = np.take(self._actions, steps, axis=0)
        next_states = np.take(self._observations, steps + (self.episodes[which] + 1)[:, None], 0)
        rewards = np.take(self._rewards, steps)
        if not whole:
            for array in (actions, next_states, rewards):
                array[~valid] = 0
        last = valid & (steps == end[:, None] - 1)
        continues = 1 - (last & self._terminations[which][:, None]).astype(np.float32)
        return actions, next_states, rewards, valid, continues

    def _values(
        self, which: np.ndarray, step: np.ndarray, index: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        known = step + self.horizon < self._value_ends[which]
        value = np.take(self._returns, np.where(known, index + self.horizon, index))
        return np.where(known, value, np.float32(0)), known

    def _returns_to_go(self) -> np.ndarray:
        """Return-to-go of every window's first state, (N,) float32, worked out in float64."""
        result = np.empty(len(self), np.float32)
        for which, first in enumerate(self._firsts[:-1]):
            start, end = self._starts[which], self._ends[which]
            tail = self._rewards[start:end].astype(np.float64)
            if self._terminations[which]:
                tail[-1] -= self.termination_penalty
            # After round i each entry sums 2^i discounted rewards, so log2(length) rounds do.
            shift = 1
            while shift < len(tail):
                tail[:-shift] += self.discount**shift * tail[shift:]
                shift *= 2
            result[first : first + len(tail)] = tail
        return result

    def normalizer(self) -> Normalizer:
        """Statistics of the chosen episodes, in one pass and in float64.

        States, actions and rewards: every stored step. Value: every valid window's value; mean 0
        and scale 1 where there is none.
        """
        moments = {
            "state": Moments(self._observations.shape[1]),
            "action": Moments(self._actions.shape[1]),
            "reward": Moments(1),
            "value": Moments(1),
        }
        for chunk in self._chunks():
            parts: dict[str, list[np.ndarray]] = {name: [] for name in moments}
            for which in chunk:
                start, end, episode = self._starts[which], self._ends[which], self.episodes[which]
                parts["state"].append(self._observations[start + episode : end + episode + 1])
                parts["action"].append(self._actions[start:end])
                parts["reward"].append(self._rewards[start:end, None])
                offset = self._firsts[which] - start
                known = slice(start + self.horizon + offset, self._value_ends[which] + offset)
                if known.start < known.stop:
                    parts["value"].append(self._returns[known, None])
            for name, arrays in parts.items():
                if arrays:
                    moments[name].add(np.concatenate(arrays))
        return Normalizer(**{name: moment.affine() for name, moment in moments.items()})

    def _chunks(self) -> Iterator[list[int]]:
        """Positions of the chosen episodes in runs of about `CHUNK_STEPS` steps."""
        chunk: list[int] = []
        steps = 0
        for which, length in enumerate(self._ends - self._starts):
            chunk.append(which)
            steps += int(length)
            if steps >= CHUNK_STEPS:
                yield chunk
                chunk, steps = [], 0
        if chunk:
            yield chunk


def split_episodes(
    store: EpisodeStore, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Episode indices for training and validation, each sorted, drawn at random.

    fraction: share of episodes for validation, in [0, 1); at least one episode where it is above 0.
    Raises ValueError where no episode would be left for training.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction must be at least 0 and below 1, got {fraction}")
    count = max(1, round(fraction * store.num_episodes)) if fraction else 0
    if count >= store.num_episodes:
        raise ValueError(
            f"cannot keep {count} of {store.num_episodes} episodes for validation: none would be "
            "left for training"
        )
    order = np.random.default_rng(seed).permutation(store.num_episodes)
    return np.sort(order[count:]), np.sort(order[:count])


def _checked_episodes(store: EpisodeStore, episodes: np.ndarray | None) -> np.ndarray:
    if episodes is None:
        return np.arange(store.num_episodes)
    chosen = np.asarray(episodes)
    if chosen.ndim != 1 or not len(chosen) or not np.issubdtype(chosen.dtype, np.integer):
        raise ValueError(f"episodes must be a non-empty list of indices, got {episodes!r}")
    if chosen.min() < 0 or chosen.max() >= store.num_episodes:
        raise ValueError(
            f"episodes must be from 0 to {store.num_episodes - 1}, got {chosen.min()} to "
            f"{chosen.max()}"
        )
    return chosen.astype(np.int64)
