"""The grid measures only what plans as the reference does, and survives a rival that cannot run."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import grid
from benchmarks.baselines import parity
from benchmarks.workload import Cell, prepare
from dmpc_fast.latency import Budget

CELL = Cell("tiny", 2, 5, (2, 1), threads=1, horizon=6)


def test_variants_plan_what_the_reference_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid, "measured_peaks", lambda threads: dict.fromkeys(PEAKS, 100.0))

    def unavailable(name: str, work: object) -> object:
        raise ImportError("No module named 'rival'")

    names = [*grid.ENGINE, "torch eager float32", "torch eager bf16"]
    rows = grid.measure_cell(CELL, names, Budget(plans=2), lambda text: None)
    assert [row["variant"] for row in rows] == names
    for row in rows:
        assert "error" not in row
        assert row["median_s"] > 0 and row["peak_fraction"] > 0
        assert row["variant"] in grid.line(row)
    monkeypatch.setattr(grid.rivals, "prepare", unavailable)
    rows = grid.measure_cell(
        CELL, ["cpu bf16", "OpenVINO bf16"], Budget(plans=1), lambda text: None
    )
    assert "median_s" in rows[0]
    assert rows[1]["error"] == "ImportError: No module named 'rival'"
    assert "No module named 'rival'" in grid.line(rows[1])


PEAKS = ("float32_gflops", "bf16_gflops", "int8_gops")


def test_another_plan_is_not_parity() -> None:
    work = prepare(CELL)
    expected = parity.reference(work)
    assert parity.compare(expected, expected, work, "float32").holds
    other = [expected[0], expected[1], np.roll(expected[2], 1)]
    assert not parity.compare(other, expected, work, "float32").holds
