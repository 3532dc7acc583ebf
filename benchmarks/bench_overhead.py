"""What a plan costs outside the engine's own call: Python, NumPy and the way to C++.

OMP_NUM_THREADS=1 pytest benchmarks/bench_overhead.py --benchmark-only

The table's times are processor time of this process (N = 64, F = 32, 1+1, one thread) less what the
engine's calls took, measured around each of them: plans of full size, so that Python runs on caches
that the kernels have just filled. `extra_info` has the engine's own milliseconds and the share.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.workload import SEED, Cell, prepare
from dmpc_fast.backends.cpu_backend import CpuBackend
from dmpc_fast.planning.planner import Planner


class Stopwatch:
    """An engine that counts the seconds spent in its plans."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.seconds, self.calls = engine, 0.0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def plan(self, *given: Any) -> Any:
        return self._timed(self._engine.plan, *given)

    def follow(self, *given: Any) -> Any:
        return self._timed(self._engine.follow, *given)

    def _timed(self, call: Callable[..., Any], *given: Any) -> Any:
        begin = time.process_time()
        result = call(*given)
        self.seconds += time.process_time() - begin
        self.calls += 1
        return result


class Outside:
    """A timer of the time that passes outside the engine under watch."""

    watch = Stopwatch(None)

    @classmethod
    def now(cls) -> float:
        return time.process_time() - cls.watch.seconds


WAYS = ["backend", "plan", "act", "act_elites", "act_general", "act_general_elites"]


@pytest.mark.benchmark(timer=Outside.now)
@pytest.mark.parametrize("preset", ["tiny", "small"])
@pytest.mark.parametrize("way", WAYS)
def test_overhead(benchmark: BenchmarkFixture, way: str, preset: str) -> None:
    """`CpuBackend.plan` of a ready request, `Planner.plan`, and `Planner.act` that runs the best
    candidate or, as the shipped models do, the mean of elites; the general way, which several robots,
    models with a past and other backends take, beside the short one."""
    work = prepare(Cell(preset, 1, 64, (1, 1), threads=1))
    backend, request = CpuBackend(work.model, threads=1), work.request()
    group, observation = request.groups[0], work.observation[0]
    planner = Planner(
        work.model,
        backend,
        dtype="float32",
        num_samples=group.count,
        num_elites=4 if way.endswith("elites") else 1,
        seed=SEED,
        proposal_sampler=group.proposal,
        dynamics_sampler=group.dynamics,
    )
    watch = Outside.watch = backend._engine = Stopwatch(backend._engine)
    # A context, even of a model that takes none, is for the general way.
    context = np.zeros(0) if "general" in way else None
    run = {
        "backend": lambda: backend.plan(request),
        "plan": lambda: planner.plan(observation),
    }.get(way, lambda: planner.act(observation, context=context))
    benchmark.pedantic(run, warmup_rounds=3, rounds=100)
    engine = watch.seconds / watch.calls
    benchmark.extra_info["engine_ms"] = 1e3 * engine
    benchmark.extra_info["share"] = benchmark.stats.stats.median / engine
