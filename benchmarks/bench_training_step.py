"""One optimiser step of a `small`, patch 4 dynamics network on a batch of 256, on one thread.

pytest benchmarks/bench_training_step.py --benchmark-only
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from dmpc_fast.models import blocks
from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.spec import EnvironmentSpec, ModelSpec, preset_stages
from dmpc_fast.training.batches import EXTRA_DRAWS, Batch
from dmpc_fast.training.distributed import Processes
from dmpc_fast.training.optimiser import StageOptimiser
from dmpc_fast.training.settings import TrainingSettings
from dmpc_fast.training.stage import StageTrainer

STATES, ACTIONS, HORIZON, BATCH = 17, 6, 32, 256


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread, and afterwards on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def random_batch() -> Batch:
    """Windows of noise: the time of a step does not depend on what they hold."""
    steps = (BATCH, HORIZON)
    return Batch(
        clean=torch.randn(*steps, STATES),
        given=torch.randn(*steps, ACTIONS),
        condition=torch.randn(BATCH, STATES),
        valid=torch.ones(steps, dtype=torch.bool),
        angle=torch.rand(BATCH),
        eps=torch.randn(*steps, STATES),
        rewards=torch.zeros(steps),
        continues=torch.ones(steps),
        value=torch.zeros(BATCH),
        value_valid=torch.ones(BATCH, dtype=torch.bool),
        uniform=torch.rand(BATCH, EXTRA_DRAWS),
        step=torch.tensor(500.0),
    )


@pytest.mark.parametrize("attention", ["library", "compiler"])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_training_step(
    benchmark: BenchmarkFixture,
    monkeypatch: pytest.MonkeyPatch,
    one_thread: None,
    precision: str,
    compiled: bool,
    attention: str,
) -> None:
    """Eager steps always use the library's attention; compiled ones, either."""
    if attention == "compiler" and not compiled:
        pytest.skip("the compiler's attention exists in compiled steps alone")
    torch._dynamo.reset()
    if attention == "library":
        monkeypatch.setattr(blocks, "SHORT_SEQUENCE", 0)
    bounds = ((-1.0,) * ACTIONS, (1.0,) * ACTIONS)
    environment = EnvironmentSpec(None, None, *bounds, 0.05)
    stages = preset_stages("small", patch=4)
    spec = ModelSpec(STATES, ACTIONS, HORIZON, 1, 0, 0.99, 100.0, stages, environment)
    settings = dataclasses.replace(
        TrainingSettings(steps={"dynamics": 1000}), compile=compiled, batch_size=BATCH
    )
    settings = dataclasses.replace(settings, precision=precision)
    trainer = StageTrainer(
        spec, "dynamics", settings, device=torch.device("cpu"), processes=Processes()
    )
    batch = random_batch()
    benchmark.extra_info["windows"] = BATCH
    benchmark.pedantic(trainer.step, args=(500, batch), warmup_rounds=5, rounds=30)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_muon_step(benchmark: BenchmarkFixture, one_thread: None, precision: str) -> None:
    """The optimiser's step alone: Muon for the hidden matrices, AdamW for the rest."""
    bounds = ((-1.0,) * ACTIONS, (1.0,) * ACTIONS)
    stages = preset_stages("small", patch=4)
    environment = EnvironmentSpec(None, None, *bounds, 0.05)
    spec = ModelSpec(STATES, ACTIONS, HORIZON, 1, 0, 0.99, 100.0, stages, environment)
    settings = dataclasses.replace(
        TrainingSettings(steps={"dynamics": 1000}, muon=("dynamics",)), precision=precision
    )
    optimiser = StageOptimiser(
        torch.nn.ModuleList([TrajectoryTransformer(spec, "dynamics")]), "dynamics", settings
    )

    def gradients() -> None:
        for parameter in optimiser.parameters:
            parameter.grad = torch.randn_like(parameter)

    benchmark.pedantic(lambda: optimiser.step(1e-3), setup=gradients, rounds=20, warmup_rounds=2)
