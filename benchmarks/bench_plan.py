"""One plan of the shipped Hopper model (N = 64, 5 + 3 steps, `small`, patch 4), on one thread.

pytest benchmarks/bench_plan.py --benchmark-only
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from dmpc_fast.assets import resolve
from dmpc_fast.planning.planner import Planner
from dmpc_fast.spec import SamplerSpec

#: Largest part by which a candidate's score may differ from the float32 reference's, over the
#: spread of the scores: a row of a backend that plans something else would mean nothing.
PARITY = {"float32": 1e-4, "bf16": 0.15, "int8": 0.5}


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread, and afterwards on as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("steps", [(1, 1), (5, 3)], ids=["1+1", "5+3"])
@pytest.mark.parametrize(
    ("backend", "dtype"),
    [("torch", "float32"), ("cpu", "float32"), ("cpu", "bf16"), ("cpu", "int8")],
)
def test_plan(
    benchmark: BenchmarkFixture,
    one_thread: None,
    backend: str,
    dtype: str,
    steps: tuple[int, int],
) -> None:
    """Observation to plan, through the public planner."""
    samplers = {
        "proposal_sampler": SamplerSpec.uniform(steps[0]),
        "dynamics_sampler": SamplerSpec.uniform(steps[1]),
    }

    def load(backend: str, dtype: str) -> Planner:
        return Planner.load(
            resolve("hopper"), backend=backend, dtype=dtype, num_samples=64, threads=1, **samplers
        )

    planner, reference = load(backend, dtype), load("torch", "float32")
    observation = np.zeros(planner.spec.state_size, np.float32)
    observation[0] = 1.25  # the torso's height: the robot stands
    expected = reference.plan(observation).scores
    error = np.abs(planner.plan(observation).scores - expected)
    assert np.sqrt(np.mean(error**2)) <= PARITY[dtype] * expected.std()
    benchmark.pedantic(planner.plan, args=(observation,), warmup_rounds=5, rounds=50)
