"""One small training step, for tools that watch every access: python -m ... KERNELS PRECISION."""

from __future__ import annotations

import sys
from typing import Any

import torch

from benchmarks.gpu.training_steps import random_batch
from benchmarks.workload import preset_spec
from dmpc_fast.training.distributed import Processes
from dmpc_fast.training.settings import TrainingSettings
from dmpc_fast.training.stage import StageTrainer

#: Not a multiple of what a program holds.
COUNT = 9


def main() -> None:
    kernels, precision = sys.argv[1:]
    chosen: dict[str, Any] = {"kernels": kernels, "precision": precision, "compile": False}
    settings = TrainingSettings(steps={"dynamics": 1}, batch_size=COUNT, **chosen)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    spec = preset_spec("tiny", 4)
    trainer = StageTrainer(spec, "dynamics", settings, device=device, processes=Processes())
    loss = float(trainer.step(0, random_batch(COUNT, device))["loss"])
    if not loss < float("inf"):
        raise SystemExit(f"the loss is not finite: {loss}")
    print(f"{kernels} {precision}: loss {loss:.4f}")


if __name__ == "__main__":
    main()
