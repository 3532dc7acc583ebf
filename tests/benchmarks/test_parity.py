"""Reduced precision costs no more accuracy here than in the library that users would pick instead."""

from __future__ import annotations

import pytest

from benchmarks.baselines import parity
from benchmarks.workload import Cell, prepare
from dmpc_fast.backends.cpu_backend import CpuBackend

#: Errors of actions, states and scores that OpenVINO 2026.4 has on the same models and noise
#: (benchmarks/results/latency/one_thread.json).
OPENVINO = {
    ("small", 1, "bf16"): (0.0136, 0.0130, 0.0281),
    ("small", 1, "int8"): (0.0466, 0.0454, 0.0659),
    ("small", 4, "bf16"): (0.0142, 0.0124, 0.0220),
    ("small", 4, "int8"): (0.0563, 0.0457, 0.0822),
}


@pytest.mark.parametrize("patch", [1, 4])
def test_errors_are_below_openvinos(patch: int) -> None:
    work = prepare(Cell("small", patch, 64, (1, 1), threads=1))
    expected = parity.reference(work)
    for dtype in ("bf16", "int8"):
        plan = CpuBackend(work.model, dtype=dtype, threads=1).plan(work.request())
        outputs = [plan.actions[0], plan.states[0], plan.scores[0]]
        found = parity.compare(outputs, expected, work, dtype)
        limits = OPENVINO["small", patch, dtype]
        for name, limit in zip(("actions", "states", "scores"), limits, strict=True):
            assert getattr(found, name) <= limit, (dtype, name, found)
        assert found.holds
        assert found.rank >= 0.99
