"""What a stage learns from: one loss object per stage, and those of ordinary training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.noise import MAX_ANGLE
from dmpc_fast.training.batches import Batch
from dmpc_fast.training.distributed import Processes
from dmpc_fast.training.losses import objective_loss, velocity_loss
from dmpc_fast.training.solver import way


class StageLoss(Protocol):
    """The loss of one network on one batch, and what else is measured on held-out batches."""

    def __call__(
        self, network: TrajectoryTransformer, batch: Batch, batch_size: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of this process's part of a batch of `batch_size`, and its parts for the log."""
        ...

    def gates(
        self, network: TrajectoryTransformer, batches: list[Batch], processes: Processes
    ) -> dict[str, float]:
        """Figures of all processes together that are logged beside the validation loss."""
        ...


class DenoisingLoss:
    """Velocity regression: what proposal and dynamics learn as teachers.

    Args:
        angles: those to learn at, in radians, alike often; None for all from 0 to pi/2.
        weights: of the steps of the horizon, (F,); None where all weigh 1.
    """

    def __init__(
        self, angles: Sequence[float] | None = None, weights: Tensor | None = None
    ) -> None:
        self._angles = None if angles is None else torch.tensor(angles, dtype=torch.float32)
        self._weights = weights

    def __call__(
        self, network: TrajectoryTransformer, batch: Batch, batch_size: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return velocity_loss(
            network, batch.clean, batch.given, batch.condition, batch.valid, self._angle(batch),
            batch.eps, batch_size, self._weights,
        ), {}  # fmt: skip

    def _angle(self, batch: Batch) -> Tensor:
        """The batch's angles, each moved to one of those to learn at."""
        if self._angles is None:
            return batch.angle
        angles = self._angles.to(batch.angle.device)
        share = batch.angle / MAX_ANGLE
        return angles[(share * len(angles)).long().clamp(0, len(angles) - 1)]

    def gates(
        self, network: TrajectoryTransformer, batches: list[Batch], processes: Processes
    ) -> dict[str, float]:
        return {}


class ObjectiveLoss:
    """Regression of reward, continuation and an expectile of the value.

    Args:
        expectile: see `TrainingSettings.value_expectile`.
        dynamics: predicts the states of some examples from `Batch.eps`; None for the data's own.
        solver_steps: DDIM steps of such a prediction.
        predicted: share of examples whose states are predicted.
    """

    def __init__(
        self,
        expectile: float = 0.5,
        dynamics: TrajectoryTransformer | None = None,
        solver_steps: int = 1,
        predicted: float = 0.0,
    ) -> None:
        self._expectile, self._dynamics = expectile, dynamics
        self._solver_steps, self._predicted = solver_steps, predicted

    def __call__(
        self, network: TrajectoryTransformer, batch: Batch, batch_size: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        outputs = network(None, self._given(batch), batch.condition, valid=batch.valid)
        reward, going_on, value = objective_loss(
            outputs, batch.rewards, batch.continues, self._value(network, batch), batch.valid,
            batch.value_valid, batch_size, self._expectile,
        )  # fmt: skip
        return reward + going_on + value, {
            "reward": reward,
            "continues": going_on,
            "value": value,
        }

    def gates(
        self, network: TrajectoryTransformer, batches: list[Batch], processes: Processes
    ) -> dict[str, float]:
        return {}

    def _given(self, batch: Batch) -> Tensor:
        """States and actions to judge, some of the states as the dynamics model predicts them."""
        if self._dynamics is None:
            return batch.given
        size = batch.eps.shape[-1]
        states, actions = batch.given[..., :size], batch.given[..., size:]
        with torch.no_grad():
            predicted = way(
                self._dynamics, batch.eps, actions, batch.condition, batch.valid, "ddim",
                self._solver_steps,
            )[-1]  # fmt: skip
        chosen = batch.uniform[:, :1, None] < self._predicted
        states = torch.where(chosen, predicted * batch.valid[..., None], states)
        return torch.cat([states, actions], dim=-1)

    def _value(self, network: TrajectoryTransformer, batch: Batch) -> Tensor:
        """What the value is to be: the behaviour's return, or what the next horizon says of it."""
        if batch.next_return is None:
            return batch.value
        with torch.no_grad():
            own = network(None, batch.next_given, batch.next_condition, valid=batch.next_valid)
        return batch.next_return + batch.next_share * own[:, -1, 2].float()


def training_loss(stage: str) -> StageLoss:
    """The loss by which `train` learns a stage."""
    return ObjectiveLoss() if stage == "objective" else DenoisingLoss()
