"""The counted work of a plan is what torch counts when the reference runs."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops import plan_work
from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.spec import STAGES, EnvironmentSpec, ModelSpec, preset_stages


@pytest.mark.parametrize(("preset", "patch", "horizon"), [("tiny", 1, 5), ("small", 3, 12)])
def test_flops_are_those_that_torch_counts(preset: str, patch: int, horizon: int) -> None:
    bounds = ((-1.0,) * 3, (1.0,) * 3)
    spec = ModelSpec(
        7, 3, horizon, 1, 0, 0.99, 100.0, preset_stages(preset, patch=patch),
        EnvironmentSpec(None, None, *bounds, 0.01),
    )  # fmt: skip
    work = plan_work(spec, 10, 1, 1)
    for stage in STAGES:
        network = TrajectoryTransformer(spec, stage)
        # What a candidate adds: the condition's share is the same for any number of them.
        added = _counted(network, spec, stage, 3) - _counted(network, spec, stage, 2)
        assert work[stage].flops == 10 * added
    assert work["plan"].flops == sum(work[stage].flops for stage in STAGES)


def test_steps_and_members_multiply() -> None:
    bounds = ((-1.0,) * 2, (1.0,) * 2)
    stages = preset_stages("tiny", objective={"members": 3})
    spec = ModelSpec(5, 2, 8, 1, 0, 0.99, 100.0, stages, EnvironmentSpec(None, None, *bounds, 0.01))
    one, many = plan_work(spec, 4, 1, 1), plan_work(spec, 8, 5, 3)
    assert many["proposal"].flops == 10 * one["proposal"].flops
    assert many["dynamics"].flops == 6 * one["dynamics"].flops
    assert many["objective"].flops == 2 * one["objective"].flops
    assert one["objective"].flops > 2.9 * one["proposal"].flops


def _counted(network: TrajectoryTransformer, spec: ModelSpec, stage: str, candidates: int) -> int:
    def features(size: int) -> torch.Tensor | None:
        return torch.randn(candidates, spec.horizon, size) if size else None

    angle = torch.zeros(1) if spec.noisy_size(stage) else None
    # The counter knows products, not the fused attention of the CPU.
    plain = sdpa_kernel(SDPBackend.MATH)
    with plain, FlopCounterMode(display=False) as counter, torch.no_grad():
        network(
            features(spec.noisy_size(stage)),
            features(spec.clean_size(stage)),
            torch.randn(1, spec.condition_size),
            angle,
        )
    return int(counter.get_total_flops())
