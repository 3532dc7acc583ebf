"""Training of one stage: network, moving average, optimiser, schedule; one step and validation."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from dmpc_fast.model_context import CONDITION_WEIGHTS
from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.spec import ModelSpec
from dmpc_fast.training.adaptation import (
    Adaptation,
    load_trained,
    merged_state,
    prepare_members,
)
from dmpc_fast.training.batches import Batch
from dmpc_fast.training.block_kernels import use_kernels
from dmpc_fast.training.checkpoint import clone, prefixed, unprefixed
from dmpc_fast.training.distributed import Processes
from dmpc_fast.training.optimiser import StageOptimiser
from dmpc_fast.training.settings import TrainingSettings
from dmpc_fast.training.stage_loss import StageLoss, training_loss


class StageTrainer:
    """All that changes while one stage is trained.

    Args:
        spec: the model. stage: which of its stages. settings: how to train it.
        device: where. processes: who else takes part.
        loss: what the stage learns from; that of ordinary training where None.
        adaptation: which weights may change; all where None.
    """

    def __init__(
        self,
        spec: ModelSpec,
        stage: str,
        settings: TrainingSettings,
        *,
        device: torch.device,
        processes: Processes,
        loss: StageLoss | None = None,
        adaptation: Adaptation | None = None,
    ) -> None:
        self.stage, self.settings = stage, settings
        self._device, self._processes = device, processes
        # Initial weights are a function of seed and stage, whatever was trained before.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed * len(spec.stages) + sorted(spec.stages).index(stage))
            networks = nn.ModuleList(
                TrajectoryTransformer(spec, stage) for _ in range(spec.stages[stage].members)
            )
            if spec.context and stage != "proposal":
                _ignore_context(networks, spec.context)
            prepare_members(networks, adaptation or Adaptation())
        for member in networks:
            use_kernels(member, spec, settings, device)
        self.network = networks.to(device)
        self.average = copy.deepcopy(self.network).requires_grad_(False)
        self._optimiser = StageOptimiser(self.network, stage, settings)
        self._criterion = loss or training_loss(stage)
        total: Callable[..., tuple[Tensor, dict[str, Tensor]]] = self._loss
        self._compiled = torch.compile(total, dynamic=False) if settings.compile else total

    def _loss(
        self, network: nn.ModuleList, batch: Batch, batch_size: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Sum over ensemble members, and its parts for the log."""
        total = torch.zeros((), device=self._device)
        parts: dict[str, Tensor] = {}
        precision = torch.bfloat16 if self.settings.precision == "bf16" else torch.float32
        enabled = precision is torch.bfloat16
        with torch.autocast(self._device.type, precision, enabled=enabled):
            for member in network:
                loss, parts = self._criterion(
                    cast(TrajectoryTransformer, member), batch, batch_size
                )
                total = total + loss
        parts = {**parts, "loss": total}
        return total, {name: part.detach() for name, part in parts.items()}

    def step(self, index: int, batch: Batch) -> dict[str, Tensor]:
        """One optimiser step with index `index`; scalars of the loss are not synchronised."""
        settings = self.settings
        batch = self._to_device(batch)
        loss, parts = self._compiled(self.network, batch, settings.batch_size)
        loss.backward()
        parameters = self._optimiser.parameters
        self._processes.sum_([p.grad for p in parameters if p.grad is not None])
        norm = nn.utils.clip_grad_norm_(parameters, settings.clip_norm, foreach=True)
        self._optimiser.step(self.learning_rate(index))
        # The average must not remember the random start of a short run.
        decay = min(settings.ema_decay, (1 + index) / (10 + index))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.network.parameters()), 1 - decay
            )
        return {**parts, "gradient_norm": norm.detach()}

    def totals(self, scalars: dict[str, Tensor]) -> dict[str, float]:
        """Scalars of `step` for all processes together; synchronises."""
        losses = [value for name, value in scalars.items() if name != "gradient_norm"]
        self._processes.sum_(losses)
        return {name: float(value) for name, value in scalars.items()}

    def learning_rate(self, index: int) -> float:
        """Linear warm-up, then a cosine to 0 at the stage's last step."""
        settings, total = self.settings, self.settings.steps[self.stage]
        highest = settings.rate(self.stage)
        warmup = min(settings.warmup, total // 2)
        if index < warmup:
            return highest * (index + 1) / warmup
        phase = (index - warmup) / max(1, total - warmup)
        return highest * 0.5 * (1 + math.cos(math.pi * phase))

    @torch.inference_mode()
    def validate(self, batches: list[Batch], batch_size: int) -> dict[str, float]:
        """Loss and gates of the averaged weights over held-out batches, eagerly."""
        sums: dict[str, Tensor] = {}
        batches = [self._to_device(batch) for batch in batches]
        for batch in batches:
            _, parts = self._loss(self.average, batch, batch_size)
            for name, part in parts.items():
                sums[name] = sums.get(name, torch.zeros_like(part)) + part
        self._processes.sum_(list(sums.values()))
        figures = {name: float(total) / len(batches) for name, total in sums.items()}
        for member in self.average:
            network = cast(TrajectoryTransformer, member)
            figures |= self._criterion.gates(network, batches, self._processes)
        return {f"validation_{name}": figure for name, figure in figures.items()}

    def _to_device(self, batch: Batch) -> Batch:
        if self._device.type == "cpu":
            return batch
        return Batch._make(
            None if tensor is None else tensor.to(self._device, non_blocking=True)
            for tensor in batch
        )

    def state(self) -> dict[str, Tensor]:
        """Tensors from which `load_state` continues bit for bit."""
        tensors = prefixed("network", clone(self.network.state_dict()))
        tensors |= prefixed("average", clone(self.average.state_dict()))
        return tensors | self._optimiser.state()

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        self.network.load_state_dict(unprefixed("network", tensors))
        self.average.load_state_dict(unprefixed("average", tensors))
        self._optimiser.load_state(tensors)

    def load_weights(self, tensors: dict[str, Tensor]) -> None:
        """Start from trained weights (names of the model file without the stage)."""
        load_trained(self.network, tensors)
        load_trained(self.average, tensors)

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights that ship, by the names that `load_weights` takes."""
        return merged_state(self.average)


def _ignore_context(networks: nn.ModuleList, size: int) -> None:
    """Zero what reads a context that training never fills: it stays zero then, since its gradient is."""
    with torch.no_grad():
        for name, parameter in networks.named_parameters():
            if name.partition(".")[2] in CONDITION_WEIGHTS:
                parameter[:, -size:] = 0
