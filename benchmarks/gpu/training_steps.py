"""A training step of the dynamics network, ready to be timed.

Variants are those of `cells.TRAINING`. Steps are what `dmpc-fast train` runs, in bf16, on windows of
noise that lie on the device: what a step learns does not change how long it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._inductor import config as inductor

from benchmarks.gpu.device_work import device_work
from benchmarks.gpu.worker import Prepared
from benchmarks.workload import ACTIONS, HORIZON, STATES, preset_spec
from dmpc_fast.training.batches import EXTRA_DRAWS, Batch
from dmpc_fast.training.distributed import Processes
from dmpc_fast.training.settings import TrainingSettings
from dmpc_fast.training.stage import StageTrainer

#: Steps of a run: nothing waits for the device in between, as nothing does in training.
STEPS = 10
#: Before any that counts, and where in the schedule they stand.
WARM_UP, INDEX = 5, 500


def prepare(variant: str, question: Mapping[str, Any]) -> Prepared:
    """question: {"preset", "batch_size", "device"}."""
    how, kernels = variant.split()
    device, batch_size = torch.device(question["device"]), question["batch_size"]
    # What torch.compile's mode "reduce-overhead" sets, for a trainer that leaves the mode alone.
    inductor.triton.cudagraphs = how == "graphs"
    settings = TrainingSettings(
        steps={"dynamics": 1000},
        batch_size=batch_size,
        compile=how != "eager",
        kernels="triton" if kernels == "triton" else "torch",
    )
    spec = preset_spec(question["preset"], 1)
    trainer = StageTrainer(spec, "dynamics", settings, device=device, processes=Processes())
    batch = random_batch(batch_size, device)

    def step() -> None:
        trainer.step(INDEX, batch)
        synchronize(device)

    def run() -> Tensor:
        for _ in range(STEPS):
            loss = trainer.step(INDEX, batch)["loss"]
        synchronize(device)
        return loss

    for _ in range(WARM_UP):
        step()
    loss = float(run())
    if not loss == loss:
        raise RuntimeError("the loss is NaN")
    return Prepared(run, {"loss": loss, "steps_per_run": STEPS, **device_work(step)})


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def random_batch(count: int, device: torch.device) -> Batch:
    """Windows of noise; a tenth ends early, so that masks are at work."""
    torch.manual_seed(0)
    steps = (count, HORIZON)
    lengths = torch.where(torch.rand(count) < 0.1, torch.randint(1, HORIZON, (count,)), HORIZON)
    batch = Batch(
        clean=torch.randn(*steps, STATES),
        given=torch.randn(*steps, ACTIONS),
        condition=torch.randn(count, STATES),
        valid=torch.arange(HORIZON) < lengths[:, None],
        angle=torch.rand(count),
        eps=torch.randn(*steps, STATES),
        rewards=torch.zeros(steps),
        continues=torch.ones(steps),
        value=torch.zeros(count),
        value_valid=torch.ones(count, dtype=torch.bool),
        uniform=torch.rand(count, EXTRA_DRAWS),
        step=torch.tensor(float(INDEX)),
    )
    return Batch._make(None if tensor is None else tensor.to(device) for tensor in batch)
