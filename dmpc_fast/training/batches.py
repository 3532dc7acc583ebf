"""Training batches: a pure function of (seed, stage, step), so that a run can resume anywhere."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from dmpc_fast.data.mirror import Mirror
from dmpc_fast.data.windows import WindowBatch, Windows
from dmpc_fast.noise import MAX_ANGLE
from dmpc_fast.normalizer import Normalizer, condition_vector
from dmpc_fast.spec import STAGES

#: Uniform numbers per example beside its angle.
EXTRA_DRAWS = 3
#: Word of the counter at which coins of mirrored windows are drawn, so that other draws stay the same.
MIRROR_STREAM = 1 << 63


class Batch(NamedTuple):
    """Normalised tensors of one stage; see training.losses. `clean` and `eps` have no features for
    the objective, `given` has none for the proposal. uniform (B, EXTRA_DRAWS): numbers in [0, 1) for
    losses that draw more than an angle. step: the batch's own, a float32 scalar. next_given,
    next_condition, next_valid: the window that follows, for values that learn from themselves, and
    None for others: such a value's target is next_return (B,) + next_share (B,) times its own there,
    all normalised, where value_valid says so."""

    clean: Tensor
    given: Tensor
    condition: Tensor
    valid: Tensor
    angle: Tensor
    eps: Tensor
    rewards: Tensor
    continues: Tensor
    value: Tensor
    value_valid: Tensor
    uniform: Tensor
    step: Tensor
    next_given: Tensor | None = None
    next_condition: Tensor | None = None
    next_valid: Tensor | None = None
    next_return: Tensor | None = None
    next_share: Tensor | None = None


class StageBatches:
    """Windows with noise for one stage.

    Args:
        windows: where windows come from.
        normalizer: applied to all of them.
        stage: which of `STAGES` the batches are for.
        seed: of the whole run. batch_size: over all processes.
        rank, world: which slice of each batch this process gets.
        return_temperature: None to draw all windows alike, or draw each with a weight of
            exp(return / temperature), returns standardised over the windows.
        weighted_return: which return that is, of the whole "episode" or the discounted one "to-go"
            from the window on, which starves starts and ends of episodes of data.
        start_fraction: share of the batch that is drawn from the first steps of episodes alone.
        start_steps: how many those are; None for the horizon.
        bootstrap: whether batches hold the windows that follow. state_noise: standard
            deviation of noise on given states, for the objective. history_noise: the same on the states
        of the condition, for the proposal. predicts: whether batches of the
            objective hold `eps` for a dynamics model to predict states from.
        mirror: a symmetry of the robot, applied to half of the windows.
        context: (N, size), of every window; None for models that take none.
    """

    def __init__(
        self,
        windows: Windows,
        normalizer: Normalizer,
        stage: str,
        *,
        seed: int,
        batch_size: int,
        rank: int = 0,
        world: int = 1,
        return_temperature: float | None = None,
        weighted_return: str = "episode",
        start_fraction: float = 0.0,
        start_steps: int | None = None,
        bootstrap: bool = False,
        state_noise: float = 0.0,
        history_noise: float = 0.0,
        predicts: bool = False,
        mirror: Mirror | None = None,
        context: np.ndarray | None = None,
    ) -> None:
        if len(windows) == 0:
            raise ValueError("the dataset has no window: every episode is empty")
        if batch_size % world:
            raise ValueError(f"batch_size {batch_size} is not a multiple of {world} processes")
        self._windows, self._normalizer, self._stage = windows, normalizer, stage
        self._key = np.array([seed, STAGES.index(stage)], dtype=np.uint64)
        self._batch_size = batch_size
        self._bootstrap, self._state_noise, self._predicts = bootstrap, state_noise, predicts
        self._mirror, self._context, self._history_noise = mirror, context, history_noise
        steps = windows.horizon if start_steps is None else start_steps
        weights = _weights(windows, return_temperature, weighted_return, start_fraction, steps)
        self._cumulative = np.cumsum(weights)
        self._slice = slice(rank * batch_size // world, (rank + 1) * batch_size // world)

    def at(self, step: int) -> Batch:
        """This process's part of the batch of `step`."""
        # The counter's high word leaves 2^64 draws to each step.
        counter = np.array([0, 0, 0, step], dtype=np.uint64)
        generator = np.random.Generator(np.random.Philox(key=self._key, counter=counter))
        draws = generator.random(self._batch_size) * self._cumulative[-1]
        indices = np.searchsorted(self._cumulative, draws, side="right")
        indices = np.minimum(indices, len(self._windows) - 1)
        # Stratified over the batch: the loss depends on the angle far more than on the window.
        strata = generator.permutation(self._batch_size)
        uniform = (strata + generator.random(self._batch_size)) / self._batch_size
        angle = (MAX_ANGLE * uniform).astype(np.float32)
        indices = indices[self._slice]
        window = self._drawn(indices, step)
        batch = self._tensors(window, self._condition(window, indices), angle, generator, step)
        return self._with_following(batch, indices, step) if self._bootstrap else batch

    def _drawn(self, indices: np.ndarray, step: int) -> WindowBatch:
        """Windows, some of them mirrored: the same ones of a step, whichever the windows are."""
        window = self._windows.batch(indices)
        if self._mirror is None:
            return window
        counter = np.array([0, 0, MIRROR_STREAM, step], dtype=np.uint64)
        coins = np.random.Generator(np.random.Philox(key=self._key, counter=counter))
        return self._mirror.apply(window, (coins.random(self._batch_size) < 0.5)[self._slice])

    def _with_following(self, batch: Batch, indices: np.ndarray, step: int) -> Batch:
        """The batch with the windows that follow and what they say of its values."""
        windows, scales = self._windows, self._normalizer
        index, exists = windows.following(indices)
        window = self._drawn(index, step)
        steps = window.valid.shape[1]
        ends = (window.continues == 0).any(1)
        discounts = windows.discount ** np.arange(steps + 1)
        gained = (window.rewards * window.valid - windows.termination_penalty * (
            window.continues == 0)) @ discounts[:-1]  # fmt: skip
        share = np.where(ends, 0.0, discounts[-1])
        mean, scale = float(scales.value.mean[0]), float(scales.value.scale[0])
        states, actions = self._normalized(window)
        return batch._replace(
            # A truncated window says neither what follows it nor that nothing does.
            value_valid=torch.from_numpy(exists & (ends | window.valid.all(1))),
            next_given=_tensor(np.concatenate([states, actions], axis=-1)),
            next_condition=torch.from_numpy(self._condition(window, index)),
            next_valid=torch.from_numpy(window.valid),
            next_return=_tensor((gained + share * mean - mean) / scale),
            next_share=_tensor(share),
        )

    def _normalized(self, window: WindowBatch) -> tuple[np.ndarray, np.ndarray]:
        """States and actions in normalised units; nothing past an episode's end, there too."""
        valid = window.valid[..., None]
        return (
            self._normalizer.state.normalize(window.next_states) * valid,
            self._normalizer.action.normalize(window.actions) * valid,
        )

    def _condition(self, window: WindowBatch, indices: np.ndarray) -> np.ndarray:
        """The condition of the windows at `indices`, (B, C)."""
        context = None if self._context is None else self._context[indices]
        return condition_vector(
            self._normalizer, window.states, window.past_actions, window.mask, context
        )

    def _moved(
        self, condition: np.ndarray, window: WindowBatch, generator: np.random.Generator
    ) -> np.ndarray:
        """The condition with noise on its states; none on those before an episode's start."""
        count, history, size = window.states.shape
        shape = (self._batch_size, history, size)
        noise = generator.standard_normal(shape, dtype=np.float32)[self._slice]
        noise[:, :-1] *= window.mask[..., None]
        moved = condition.copy()
        moved[:, : history * size] += self._history_noise * noise.reshape(count, -1)
        return moved

    def _tensors(
        self,
        window: WindowBatch,
        condition: np.ndarray,
        angle: np.ndarray,
        generator: np.random.Generator,
        step: int,
    ) -> Batch:
        scales = self._normalizer
        states, actions = self._normalized(window)
        nothing = actions[..., :0]
        clean, given = {
            "proposal": (actions, nothing),
            "dynamics": (states, actions),
            "objective": (nothing, np.concatenate([states, actions], axis=-1)),
        }[self._stage]
        drawn = states if self._predicts else clean
        shape = (self._batch_size, *drawn.shape[1:])
        eps = generator.standard_normal(shape, dtype=np.float32)[self._slice]
        # Drawn last, so that losses without a use for them see the draws that they always saw.
        uniform = generator.random((self._batch_size, EXTRA_DRAWS), dtype=np.float32)[self._slice]
        if self._state_noise > 0 and self._stage == "objective":
            shape = (self._batch_size, *states.shape[1:])
            noise = generator.standard_normal(shape, dtype=np.float32)[self._slice]
            noise *= self._state_noise * window.valid[..., None]
            given = np.concatenate([states + noise, actions], axis=-1)
        if self._history_noise > 0 and self._stage == "proposal":
            condition = self._moved(condition, window, generator)
        return Batch(
            clean=_tensor(clean),
            given=_tensor(given),
            condition=torch.from_numpy(condition),
            valid=torch.from_numpy(window.valid),
            angle=torch.from_numpy(angle[self._slice]),
            eps=_tensor(eps),
            rewards=torch.from_numpy(scales.reward.normalize(window.rewards)),
            continues=torch.from_numpy(window.continues),
            value=torch.from_numpy(scales.value.normalize(window.value)),
            value_valid=torch.from_numpy(window.value_valid),
            uniform=_tensor(uniform),
            step=torch.tensor(float(step)),
        )


def _weights(
    windows: Windows,
    return_temperature: float | None,
    weighted_return: str,
    start_fraction: float,
    start_steps: int,
) -> np.ndarray:
    """Relative probability of every window, (N,) float64."""
    weights = np.ones(len(windows))
    if return_temperature is not None:
        of_episode = weighted_return == "episode"
        returns = windows.episode_returns if of_episode else windows.returns.astype(np.float64)
        spread = returns.std()
        # Relative to the best, so that no weight overflows.
        relative = (returns - returns.max()) / (spread if spread > 0 else 1.0)
        weights = np.exp(relative / return_temperature)
    if start_fraction > 0:
        starts = windows.ages < start_steps
        added = start_fraction / (1 - start_fraction) * weights.sum() / weights[starts].sum()
        weights = weights + added * weights * starts
    return weights


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
