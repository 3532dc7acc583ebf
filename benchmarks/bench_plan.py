"""One plan of the `small` preset (N = 64, 1 + 1 evaluations) on the engine and on its rivals.

pytest benchmarks/bench_plan.py --benchmark-only

`python -m benchmarks.grid` measures the whole grid, all variants in turns; this is for profiling one.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.baselines import parity
from benchmarks.grid import VARIANTS, ready
from benchmarks.workload import Cell, prepare


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("patch", [1, 4])
@pytest.mark.parametrize("variant", VARIANTS)
def test_plan(benchmark: BenchmarkFixture, variant: str, patch: int) -> None:
    """Observation and noise (the engine draws its own) to actions, states, scores and the best."""
    work = prepare(Cell("small", patch, 64, (1, 1), threads=1))
    try:
        run, outputs = ready(variant, work)
    except ImportError as error:
        pytest.skip(f"{variant}: {error}; pip install 'dmpc-fast[rivals]'")
    dtype = variant.rsplit(" ", 1)[1]
    assert parity.compare(outputs(), parity.reference(work), work, dtype).holds
    benchmark.pedantic(run, warmup_rounds=3, rounds=50)
