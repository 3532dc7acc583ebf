"""Training with fused blocks learns what training with torch's learns, and writes the same files."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from random_models import random_spec, random_tensors
from torch import Tensor

from dmpc_fast.spec import ModelSpec
from dmpc_fast.training.adaptation import Adaptation
from dmpc_fast.training.batches import EXTRA_DRAWS, Batch
from dmpc_fast.training.checkpoint import unprefixed
from dmpc_fast.training.distributed import Processes
from dmpc_fast.training.settings import TrainingSettings
from dmpc_fast.training.stage import StageTrainer

COUNT, STEPS = 5, 3
#: Ways in float32 that differ by less are the same: the optimiser divides by gradients, so that what
#: rounding makes of the smallest ones counts as much as the largest.
SAME = 1e-2
SIZES: dict[str, Any] = {
    "patch": 2,
    "layers": 1,
    "width": 13,
    "heads": 2,
    "head_size": 3,
    "mlp": 18,
}


def batch_of(spec: ModelSpec, device: torch.device) -> Batch:
    """Windows of noise of the dynamics, of which some end early."""
    shape = (COUNT, spec.horizon)
    lengths = torch.randint(1, spec.horizon + 1, (COUNT, 1))
    batch = Batch(
        clean=torch.randn(*shape, spec.state_size),
        given=torch.randn(*shape, spec.action_size),
        condition=torch.randn(COUNT, spec.condition_size),
        valid=torch.arange(spec.horizon) < lengths,
        angle=torch.rand(COUNT),
        eps=torch.randn(*shape, spec.state_size),
        rewards=torch.zeros(shape),
        continues=torch.ones(shape),
        value=torch.zeros(COUNT),
        value_valid=torch.ones(COUNT, dtype=torch.bool),
        uniform=torch.rand(COUNT, EXTRA_DRAWS),
        step=torch.tensor(0.0),
    )
    return Batch._make(None if tensor is None else tensor.to(device) for tensor in batch)


class Run:
    """A trainer of the dynamics from given weights."""

    def __init__(
        self, spec: ModelSpec, weights: dict[str, Tensor], device: torch.device, *,
        adaptation: Adaptation | None = None, **settings: Any,
    ) -> None:  # fmt: skip
        given = {"steps": {"dynamics": 100}, "batch_size": COUNT, "warmup": 0, "compile": False}
        self.trainer = StageTrainer(
            spec, "dynamics", TrainingSettings(**{**given, **settings}), device=device,
            processes=Processes(), adaptation=adaptation,
        )  # fmt: skip
        self.trainer.load_weights(weights)
        self.initial = self.moved()

    def step(self, batches: list[Batch], first: int = 0) -> None:
        for index, batch in enumerate(batches):
            self.trainer.step(first + index, batch)

    def moved(self) -> Tensor:
        """All weights as one vector.

        But biases of keys: the softmax takes what they add to a row's logits out again, so that their
        gradients are rounding errors, which the optimiser brings to the size of any other.
        """
        state = self.trainer.network.state_dict()
        for name in [name for name in state if name.endswith("qkv.bias")]:
            query, _, value = state[name].chunk(3)
            state[name] = torch.cat([query, value])
        return torch.cat([state[name].double().flatten() for name in sorted(state)])

    def way(self) -> Tensor:
        return self.moved() - self.initial


@pytest.fixture
def spec() -> ModelSpec:
    return random_spec(**SIZES)


@pytest.fixture
def weights(spec: ModelSpec) -> dict[str, Tensor]:
    tensors = random_tensors(np.random.default_rng(), spec)
    return unprefixed("dynamics", {name: torch.from_numpy(t) for name, t in tensors.items()})


def distance(found: Tensor, wanted: Tensor) -> float:
    """Of two ways through the weights, as a share of the wanted one's length."""
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_steps_are_those_of_torch(
    spec: ModelSpec, weights: dict[str, Tensor], precision: str, device: torch.device
) -> None:
    batches = [batch_of(spec, device) for _ in range(STEPS)]
    exact, plain, fused = (
        Run(spec, weights, device, precision=own, kernels=kernels)
        for own, kernels in (("float32", "torch"), (precision, "torch"), (precision, "triton"))
    )
    for run in (exact, plain, fused):
        run.step(batches)
    own = distance(plain.way(), exact.way())
    assert distance(fused.way(), exact.way()) <= 2 * own + SAME
    assert fused.trainer.weights().keys() == plain.trainer.weights().keys()
    assert fused.trainer.state().keys() == plain.trainer.state().keys()


@pytest.mark.parametrize("muon", [(), ("dynamics",)], ids=["adamw", "muon"])
def test_a_resumed_run_is_the_same(
    spec: ModelSpec, weights: dict[str, Tensor], muon: tuple[str, ...], device: torch.device
) -> None:
    batches = [batch_of(spec, device) for _ in range(2)]
    options = {"kernels": "triton", "muon": muon}
    whole, first, second = (Run(spec, weights, device, **options) for _ in range(3))
    whole.step(batches)
    first.step(batches[:1])
    second.trainer.load_state(first.trainer.state())
    second.step(batches[1:], first=1)
    expected, actual = whole.trainer.state(), second.trainer.state()
    assert expected.keys() == actual.keys()
    assert all(torch.equal(tensor, actual[name]) for name, tensor in expected.items())


def test_validation_and_the_average_run_fused(
    spec: ModelSpec, weights: dict[str, Tensor], device: torch.device
) -> None:
    batch = batch_of(spec, device)
    found = [
        Run(spec, weights, device, precision="float32", kernels=kernels).trainer.validate(
            [batch], COUNT
        )["validation_loss"]
        for kernels in ("torch", "triton")
    ]
    assert found[1] == pytest.approx(found[0], rel=1e-5)


def test_a_compiled_step_has_no_breaks(
    spec: ModelSpec, weights: dict[str, Tensor], device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    # The compiler's own code is not what is looked at, and takes it half a minute.
    traced = functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", traced)
    batches = [batch_of(spec, device)]
    eager, compiled = (
        Run(spec, weights, device, kernels="triton", compile=way) for way in (False, True)
    )
    for run in (eager, compiled):
        run.step(batches)
    assert distance(compiled.way(), eager.way()) <= SAME


@pytest.mark.parametrize("method", ["last_layers", "lora"])
def test_adapted_weights_are_those_of_torch(
    spec: ModelSpec, weights: dict[str, Tensor], method: Any, device: torch.device
) -> None:
    batches = [batch_of(spec, device) for _ in range(2)]
    torch.manual_seed(0)
    runs = [
        Run(spec, weights, device, adaptation=Adaptation(method, lora_rank=2), kernels=kernels,
            precision="float32")
        for kernels in ("torch", "triton")
    ]  # fmt: skip
    for run in runs:
        run.step(batches)
    assert distance(runs[1].way(), runs[0].way()) <= SAME
    states = [run.trainer.weights() for run in runs]
    assert states[0].keys() == states[1].keys()
    changed = [
        {name for name, t in state.items() if not torch.equal(t.cpu(), weights[name])}
        for state in states
    ]
    assert changed[0] == changed[1] != set()
