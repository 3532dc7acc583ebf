"""The GPU benchmark where there is none, and its parts that need none."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import gpu, gpu_rivals
from benchmarks.baselines import parity
from benchmarks.workload import Cell, prepare


def test_without_a_gpu_it_says_so_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if gpu.refusal() is None:
        pytest.skip("this machine has a GPU")
    assert gpu.main(["--out", str(tmp_path / "results")]) == 2
    assert "nothing to measure: " in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_the_interpreter_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "interpreter" in str(gpu.refusal())


def test_cells_with_a_target_come_first() -> None:
    args = gpu._parser().parse_args(["--out", "unused"])
    found = [(cell.preset, cell.num_samples, cell.steps) for cell in gpu.cells(args)]
    assert set(found[:4]) == set(gpu.TARGETS_MS)
    assert len(found) == len(set(found)) == 12


def test_targets_are_compared_in_milliseconds() -> None:
    cell = Cell("paper", 1, 64, (1, 1), threads=1)
    assert gpu.target(cell, 0.0003) == {"target_ms": 0.35, "reached": True}
    assert gpu.target(cell, 0.0004)["reached"] is False
    assert gpu.target(Cell("tiny", 1, 64, (1, 1), threads=1), 1.0) == {}


@pytest.mark.parametrize("name", ["eager float32", "eager bf16"])
def test_rivals_plan_what_the_reference_plans(name: str) -> None:
    work = prepare(Cell("tiny", 4, 8, (2, 1), threads=1))
    plan = gpu_rivals.prepare(name, work, torch.device("cpu"))
    found = parity.compare(plan(), parity.reference(work), work, gpu.rounding_of(name))
    assert found.holds, found
