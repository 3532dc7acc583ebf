"""The one resumable training loop."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from dmpc_fast.data.mirror import Mirror
from dmpc_fast.data.return_ranks import ReturnRanks
from dmpc_fast.data.windows import Windows
from dmpc_fast.model_context import reads_context
from dmpc_fast.model_file import save_model, write_atomically
from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.normalizer import Normalizer
from dmpc_fast.spec import STAGES, ModelSpec
from dmpc_fast.training.adaptation import Adaptation
from dmpc_fast.training.batches import StageBatches
from dmpc_fast.training.block_kernels import check_kernels, use_kernels
from dmpc_fast.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    prefixed,
    save_checkpoint,
    unprefixed,
)
from dmpc_fast.training.distributed import Processes
from dmpc_fast.training.metrics import Metrics
from dmpc_fast.training.settings import TrainingSettings
from dmpc_fast.training.stage import StageTrainer
from dmpc_fast.training.stage_loss import DenoisingLoss, ObjectiveLoss, StageLoss
from dmpc_fast.training.step_weights import step_weights

CHECKPOINT = "checkpoint.safetensors"
MODEL = "model.safetensors"
SETTINGS = "settings.json"
SPEC = "spec.json"
VALIDATION_BATCHES = 4
#: Validation draws from steps that training never reaches.
VALIDATION_STEP = 1 << 40


class Callback(Protocol):
    """Called after every logged step with the run's position and scalars."""

    def __call__(self, *, stage: str, step: int, scalars: dict[str, float]) -> None: ...


class Trainer:
    """Trains the stages of a model one after the other, resumably.

    The result is a function of data, spec and settings alone: batches and noise are drawn from the
    step's number, so a run that was killed and resumed ends with the same weights, bit for bit on
    one machine, as one that was not.

    Args:
        out: folder of the run; holds settings, checkpoint, metrics and the final model.
        spec: the model. normalizer: its statistics.
        train, validation: windows to learn from and held-out ones.
        settings: which stages are trained, and how.
        initial: tensors (names of the model file) to start from; needed for stages that are not
            trained, as in fine-tuning.
        losses: of the stages that do not learn as in ordinary training.
        adaptation: which weights of the trained stages may change; all where None.
        device: where to train. processes: who else takes part. progress: show a bar.
        callbacks: called at every logged step.

    Raises:
        KernelsUnavailableError: the settings ask for kernels that cannot run here.
    """

    def __init__(
        self,
        out: Path,
        spec: ModelSpec,
        normalizer: Normalizer,
        train: Windows,
        validation: Windows,
        settings: TrainingSettings,
        *,
        initial: dict[str, Tensor] | None = None,
        losses: Mapping[str, StageLoss] | None = None,
        adaptation: Adaptation | None = None,
        device: str | torch.device | None = None,
        processes: Processes | None = None,
        progress: bool = True,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        self.out, self.spec, self.normalizer, self.settings = out, spec, normalizer, settings
        self._train, self._validation = train, validation
        self._mirror = (
            Mirror.of(
                settings.mirror_states, settings.mirror_actions, spec.state_size, spec.action_size
            )
            if settings.mirror_states
            else None
        )
        self._initial, self._losses = initial or {}, dict(losses or {})
        self._adaptation = adaptation
        default = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(device or default)
        check_kernels(spec, settings, self._device)
        self._processes = processes or Processes()
        self._progress, self._callbacks = progress, tuple(callbacks)
        self._stages = [stage for stage in STAGES if stage in settings.steps]
        #: Trained weights of finished stages, by the names of the model file.
        self._finished: dict[str, Tensor] = {}
        missing = [
            stage
            for stage in STAGES
            if stage not in settings.steps and not unprefixed(stage, self._initial)
        ]
        if missing:
            raise ValueError(f"stages {missing} are neither trained nor given initial weights")
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)

    @property
    def total_steps(self) -> int:
        return sum(self.settings.steps[stage] for stage in self._stages)

    def fit(self) -> Path:
        """Train from the start; returns the model file's path. The folder must hold no run."""
        if (self.out / CHECKPOINT).exists() or (self.out / MODEL).exists():
            raise FileExistsError(
                f"{self.out} already holds a run: resume it, or choose another folder"
            )
        if self._processes.first:
            self.out.mkdir(parents=True, exist_ok=True)
            write_atomically(self.out / SETTINGS, self.settings.to_json().encode())
            write_atomically(self.out / SPEC, self.spec.to_json().encode())
        self._processes.wait()
        return self._run(None)

    def resume(self) -> Path:
        """Continue after a kill, from the last checkpoint or else from the start."""
        path = self.out / CHECKPOINT
        return self._run(load_checkpoint(path) if path.exists() else None)

    def _run(self, checkpoint: Checkpoint | None) -> Path:
        stages, done = list(self._stages), 0
        if checkpoint is not None:
            if checkpoint.stage not in stages:
                raise ValueError(f"the checkpoint is of stage {checkpoint.stage!r}, not {stages}")
            position = stages.index(checkpoint.stage)
            done = sum(self.settings.steps[stage] for stage in stages[:position])
            stages = stages[position:]
            self._finished = unprefixed("finished", checkpoint.tensors)
        start = done + (checkpoint.step if checkpoint else 0)
        metrics = None
        if self._processes.first:
            metrics = Metrics(self.out, self.total_steps, resume_at=start, progress=self._progress)
        try:
            for stage in stages:
                self._train_stage(stage, done, checkpoint, metrics)
                checkpoint, done = None, done + self.settings.steps[stage]
        finally:
            if metrics is not None:
                metrics.close()
        return self._save_model()

    def _train_stage(
        self, stage: str, offset: int, checkpoint: Checkpoint | None, metrics: Metrics | None
    ) -> None:
        settings = self.settings
        trainer = StageTrainer(
            self.spec,
            stage,
            settings,
            device=self._device,
            processes=self._processes,
            loss=self._loss(stage),
            adaptation=self._adaptation,
        )
        if checkpoint is not None:
            trainer.load_state(unprefixed("current", checkpoint.tensors))
        elif initial := unprefixed(stage, self._initial):
            trainer.load_weights(initial)
        mirror = self._mirror if stage in settings.mirror_stages else None
        batches = self._batches(self._train, stage, mirror)
        held_out = self._batches(self._validation, stage)
        fixed = [held_out.at(VALIDATION_STEP + i) for i in range(VALIDATION_BATCHES)]
        total = settings.steps[stage]
        clock, timed = time.perf_counter(), 0
        for index in range(checkpoint.step if checkpoint else 0, total):
            scalars = trainer.step(index, batches.at(index))
            step, timed = index + 1, timed + 1
            values: dict[str, float] = {}
            if step % settings.log_every == 0 or step == total:
                values = trainer.totals(scalars)
                values["learning_rate"] = trainer.learning_rate(index)
                elapsed = time.perf_counter() - clock
                values["samples_per_second"] = timed * settings.batch_size / elapsed
            if step % settings.validate_every == 0 or step == total:
                values |= trainer.validate(fixed, settings.batch_size)
            if values:
                clock, timed = time.perf_counter(), 0
                self._report(metrics, stage, offset + step, step, values)
            if metrics is not None:
                metrics.advance(f"{stage} {values['loss']:.4f}" if "loss" in values else "")
            if step % settings.checkpoint_every == 0 and step < total:
                self._checkpoint(stage, step, trainer.state())
        self._finished |= prefixed(stage, trainer.weights())
        self._finish_stage(stage)

    def _loss(self, stage: str) -> StageLoss:
        """What a stage learns from."""
        if stage in self._losses:
            return self._losses[stage]
        if stage == "proposal":
            return DenoisingLoss(self._angles(stage, self.settings.proposal_angles))
        return self._dynamics_loss() if stage == "dynamics" else self._objective_loss()

    def _angles(self, stage: str, which: str) -> tuple[float, ...] | None:
        """The noise angles that a denoiser learns at, None for all."""
        sampler = self.spec.stages[stage].sampler
        assert sampler is not None  # the spec gives every denoiser one
        return sampler.angles if which == "sampler" else None

    def _dynamics_loss(self) -> StageLoss:
        settings, weights = self.settings, None
        if settings.horizon_weighting:
            power, seed = settings.horizon_weighting, settings.seed
            found = step_weights(self._train, self.normalizer, power, seed)
            weights = torch.from_numpy(found).to(self._device)
        return DenoisingLoss(self._angles("dynamics", settings.dynamics_angles), weights)

    def _objective_loss(self) -> StageLoss:
        settings = self.settings
        if not settings.predicted_states:
            return ObjectiveLoss(settings.value_expectile)
        sampler = self.spec.stages["dynamics"].sampler
        if sampler is None or sampler.rule != "ddim":
            raise ValueError("predicted_states needs a dynamics model with a DDIM sampler")
        dynamics = TrajectoryTransformer(self.spec, "dynamics").to(self._device)
        known = unprefixed("dynamics.0", {**self._initial, **self._finished})
        dynamics.load_state_dict(known)
        dynamics.requires_grad_(False)
        use_kernels(dynamics, self.spec, settings, self._device)
        return ObjectiveLoss(
            settings.value_expectile, dynamics, len(sampler.angles), settings.predicted_states
        )

    def _batches(self, windows: Windows, stage: str, mirror: Mirror | None = None) -> StageBatches:
        return StageBatches(
            windows,
            self.normalizer,
            stage,
            seed=self.settings.seed,
            batch_size=self.settings.batch_size,
            rank=self._processes.rank,
            world=self._processes.world,
            return_temperature=self._temperature(stage),
            weighted_return=self.settings.weighted_return,
            start_fraction=self.settings.start_fraction,
            start_steps=self.settings.start_steps,
            bootstrap=self.settings.value_bootstrap and stage == "objective",
            state_noise=self.settings.state_noise,
            history_noise=self.settings.history_noise,
            predicts=self.settings.predicted_states > 0 and stage == "objective",
            mirror=mirror,
            context=self._context(windows, stage),
        )

    def _context(self, windows: Windows, stage: str) -> np.ndarray | None:
        """What a stage is told beside the history, of every window: see `return_condition`. Dynamics and
        objective are told nothing."""
        size, told = self.spec.context, self.settings.return_condition
        if stage != "proposal":
            if reads_context(unprefixed(stage, self._initial), size):
                raise ValueError(
                    f"the model's {stage} reads a context of size {size}, which the data do not hold"
                )
            return np.zeros((len(windows), size), np.float32) if size else None
        if told and size != 1:
            raise ValueError(
                f"return_condition is for a model with a context of size 1, this one has {size}"
            )
        if not told and not size:
            return None
        if not told:
            raise ValueError(
                f"the model takes a context of size {size}, which the data do not hold: its proposal "
                "can learn from ranks of returns alone (return_condition)"
            )
        return ReturnRanks(self._train).of(windows)[:, None]

    def _temperature(self, stage: str) -> float | None:
        """How strongly a stage prefers episodes of high return; None: not at all."""
        settings = self.settings
        own = {
            "proposal": settings.return_temperature,
            "objective": settings.objective_temperature,
        }
        return own.get(stage)

    def _report(
        self,
        metrics: Metrics | None,
        stage: str,
        step: int,
        stage_step: int,
        values: dict[str, float],
    ) -> None:
        # A loss that is not finite would be averaged into the weights that ship.
        if not all(map(torch.isfinite, map(torch.tensor, values.values()))):
            raise FloatingPointError(
                f"training of {stage} diverged at step {stage_step}: {values}; expected finite "
                f"values. The last checkpoint in {self.out} is from before it"
            )
        if metrics is not None:
            metrics.log(step, stage, stage_step, values)
        for callback in self._callbacks:
            callback(stage=stage, step=stage_step, scalars=values)

    def _checkpoint(self, stage: str, step: int, state: dict[str, Tensor]) -> None:
        if self._processes.first:
            tensors = prefixed("current", state) | prefixed("finished", self._finished)
            save_checkpoint(self.out / CHECKPOINT, Checkpoint(stage, step, tensors))

    def _finish_stage(self, stage: str) -> None:
        """A checkpoint at the very start of the next stage, which then starts from its own seed."""
        position = self._stages.index(stage)
        if position + 1 == len(self._stages):
            return
        following = StageTrainer(
            self.spec,
            self._stages[position + 1],
            dataclasses.replace(self.settings, compile=False),
            device=self._device,
            processes=self._processes,
            adaptation=self._adaptation,
        )
        if initial := unprefixed(following.stage, self._initial):
            following.load_weights(initial)
        self._checkpoint(following.stage, 0, following.state())

    def _save_model(self) -> Path:
        path = self.out / MODEL
        if self._processes.first:
            tensors = {**self._initial, **self._finished}
            arrays = {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
            save_model(path, self.spec, {**arrays, **self.normalizer.tensors()})
        self._processes.wait()
        return path
