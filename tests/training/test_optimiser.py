"""Which optimiser changes which weights."""

from __future__ import annotations

import dataclasses
from typing import Literal

import pytest
import torch
from torch import nn

from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.spec import EnvironmentSpec, ModelSpec, preset_stages
from dmpc_fast.training.optimiser import HIDDEN, StageOptimiser
from dmpc_fast.training.settings import TrainingSettings

SETTINGS = TrainingSettings(
    steps={"dynamics": 1}, learning_rate=3e-3, weight_decay=0.0, precision="bf16"
)

MUON = dataclasses.replace(SETTINGS, muon=("dynamics",))
PRECISIONS = ("bf16", "float32")


def networks(seed: int) -> nn.ModuleList:
    torch.manual_seed(seed)
    stages = preset_stages("tiny", patch=2)
    environment = EnvironmentSpec(None, None, (-1.0, -1.0), (1.0, 1.0), 0.05)
    spec = ModelSpec(5, 2, 8, 1, 0, 0.99, 10.0, stages, environment)
    found = nn.ModuleList([TrajectoryTransformer(spec, "dynamics")])
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.1)
    return found


def step(optimiser: StageOptimiser, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in optimiser.parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimiser.step(1e-2)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_muon_makes_updates_of_hidden_matrices_orthogonal_and_no_others(
    precision: Literal["bf16", "float32"],
) -> None:
    model = networks(3)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    settings = dataclasses.replace(MUON, precision=precision)
    step(StageOptimiser(model, "dynamics", settings), 4)
    for name, parameter in model.named_parameters():
        change = parameter.detach() - before[name]
        if change.ndim < 2 or not any(part in name for part in HIDDEN):
            # The first step of AdamW is the sign of the gradient.
            torch.testing.assert_close(
                change.abs(), torch.full_like(change, 1e-2), rtol=2e-2, atol=0
            )
            continue
        values = torch.linalg.svdvals(change)
        # Five Newton-Schulz iterations end between about 0.7 and 1.2, but for values near 0, of which
        # a square matrix has a few. Of a random square matrix this quotient is about 12.
        assert float(values.max() / values.quantile(0.1)) < 3, name
        rms = float(change.square().mean().sqrt())
        assert rms == pytest.approx(0.2 * 1e-2, rel=0.35), name


def test_both_precisions_of_muon_make_the_same_updates() -> None:
    changes = []
    for precision in PRECISIONS:
        model = networks(12)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        settings = dataclasses.replace(MUON, precision=precision, weight_decay=0.1)
        optimiser = StageOptimiser(model, "dynamics", settings)
        for seed in (13, 14):
            step(optimiser, seed)
        changes.append([p.detach() - b for p, b in zip(model.parameters(), before, strict=True)])
    for bf16, float32 in zip(*changes, strict=True):
        # Fifteen products in a row, of which the iteration damps some errors and doubles others.
        bound = 15 * torch.finfo(torch.bfloat16).eps
        assert float((bf16 - float32).norm() / float32.norm()) < bound


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("muon", [(), ("dynamics", "proposal")])
def test_state_carries_on_bit_for_bit(
    muon: tuple[str, ...], precision: Literal["bf16", "float32"]
) -> None:
    settings = dataclasses.replace(SETTINGS, muon=muon, weight_decay=0.1, precision=precision)
    first = networks(5)
    whole = StageOptimiser(first, "dynamics", settings)
    step(whole, 6)
    second = networks(7)
    second.load_state_dict(first.state_dict())
    carried = StageOptimiser(second, "dynamics", settings)
    carried.load_state(whole.state())
    for seed in (8, 9):
        step(whole, seed)
        step(carried, seed)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_frozen_weights_stay() -> None:
    model = networks(10)
    model[0].token.requires_grad_(False)
    before = model[0].token.weight.detach().clone()
    step(StageOptimiser(model, "dynamics", MUON), 11)
    torch.testing.assert_close(model[0].token.weight.detach(), before, rtol=0, atol=0)
