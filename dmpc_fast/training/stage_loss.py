"""What a stage learns from: one loss object per stage, and those of ordinary training."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.training.batches import Batch
from dmpc_fast.training.distributed import Processes
from dmpc_fast.training.losses import objective_loss, velocity_loss


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
    """Velocity regression at every angle: what proposal and dynamics learn as teachers."""

    def __call__(
        self, network: TrajectoryTransformer, batch: Batch, batch_size: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return velocity_loss(
            network, batch.clean, batch.given, batch.condition, batch.valid, batch.angle, batch.eps,
            batch_size,
        ), {}  # fmt: skip

    def gates(
        self, network: TrajectoryTransformer, batches: list[Batch], processes: Processes
    ) -> dict[str, float]:
        return {}


class ObjectiveLoss:
    """Regression of reward, continuation and value."""

    def __call__(
        self, network: TrajectoryTransformer, batch: Batch, batch_size: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        outputs = network(None, batch.given, batch.condition, valid=batch.valid)
        reward, going_on, value = objective_loss(
            outputs, batch.rewards, batch.continues, batch.value, batch.valid, batch.value_valid,
            batch_size,
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


def training_loss(stage: str) -> StageLoss:
    """The loss by which `train` learns a stage."""
    return ObjectiveLoss() if stage == "objective" else DenoisingLoss()
