"""Which cells are measured in which order, and how fast a plan could be at best."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from benchmarks.flops import plan_work
from benchmarks.gpu import cells, plans, report
from benchmarks.gpu.device_work import summarised
from benchmarks.gpu.floors import Device, floors
from benchmarks.gpu.processes import ROOT
from benchmarks.workload import Cell, preset_spec

H200 = Device(132, {"bf16": 790.0, "tf32": 400.0, "float32": 60.0}, 5.5)
ALL = (cells.PRESETS, cells.ROBOTS, cells.SAMPLES, cells.STEPS)


def cell(preset: str, count: int, steps: tuple[int, int], robots: int = 1) -> Cell:
    return Cell(preset, 1, count, steps, threads=1, robots=robots)


def test_groups_with_a_target_come_first_then_one_robot() -> None:
    groups = cells.schedule(*ALL)
    keys = [(one.preset, one.num_samples, one.steps) for group in groups[:3] for one in group.cells]
    assert set(cells.TARGETS_MS) <= set(keys)
    assert keys[:2] == [("paper", 64, (1, 1)), ("paper", 64, (32, 10))]
    assert all(group.variants == (*cells.OURS, *cells.RIVALS) for group in groups[:3])
    robots = [group.cells[0].robots for group in groups[3:] if group.variants[0].endswith("bf16")]
    assert robots == sorted(robots)
    assert robots[0] == 1
    assert robots[-1] == 256
    # Every cell and variant once, but for cells that are too large.
    found = [(one, name) for group in groups for one in group.cells for name in group.variants]
    left = list(cells.too_large(*ALL))
    assert len(found) == len(set(found))
    assert len(found) == 12 * (3**4 - len(left))
    assert 0 < len(left) < 20
    assert all(one.robots > 1 for one in left)


def test_targets_are_of_one_robot() -> None:
    assert cells.target_ms(cell("paper", 64, (1, 1))) == 0.35
    assert cells.target_ms(cell("paper", 64, (1, 1), robots=16)) is None
    assert cells.target_ms(cell("tiny", 64, (1, 1))) is None


@pytest.mark.parametrize("precision", ["bf16", "tf32", "float32"])
def test_floors_bound_each_other(precision: str) -> None:
    for group in cells.schedule(*ALL):
        one = group.cells[0]
        found = floors(preset_spec(one.preset, 1), one, precision, H200)
        assert found.fill_ms >= found.tensor_ms * (1 - 1e-9)
        assert found.floor_ms >= found.l2_ms > 0
        assert found.candidates <= one.num_samples
        assert found.tensor_ms == pytest.approx(1e3 * cells.tflop(one) / H200.flops[precision])


def test_floors_of_the_papers_plan() -> None:
    one = cell("paper", 64, (1, 1))
    found = floors(preset_spec("paper", 1), one, "bf16", H200)
    # The 0.17 ms, on 128 of 132 processors.
    assert found.tensor_ms == pytest.approx(0.17, abs=0.01)
    assert found.fill_ms == pytest.approx(found.tensor_ms * 132 / 128)
    assert found.cluster > 1
    assert found.l2_ms < found.fill_ms


def test_a_tiny_shared_memory_fits_no_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.gpu.floors.SHARED_BYTES", 64)
    with pytest.raises(ValueError, match="no cut of paper"):
        floors(preset_spec("paper", 1), cell("paper", 64, (1, 1)), "bf16", H200)


def test_rows_compare_with_targets_and_floors() -> None:
    one = cell("small", 64, (1, 1))
    row = report.plan_row(
        one, "cuda bf16", {"median_ms": 0.05, "p99_ms": 0.06, "p999_ms": None}, H200
    )
    assert row["reached"]
    flops = plan_work(preset_spec("small", 1), 64, 1, 1)["plan"].flops
    assert row["tflops"] == pytest.approx(flops / 0.05e-3 / 1e12)
    assert "target 0.06 ms" in report.plan_line(row)
    failed = report.plan_row(one, "cuda bf16", {"error": "no driver"}, H200)
    assert "floor_ms" not in failed
    assert report.plan_line(failed).endswith("no driver")
    assert not report.plan_row(one, "cuda bf16", {"median_ms": 0.07}, None)["reached"]


def test_training_rows_hold_samples_a_second() -> None:
    row = report.training_row("tiny", 256, "eager torch", {"median_ms": 20.0, "steps_per_run": 10})
    assert row["step_ms"] == 2.0
    assert row["samples_per_s"] == 128_000


def test_kernels_of_equal_runs_are_counted() -> None:
    runs = [(0.0, 10.0), (12.0, 20.0), (100.0, 110.0), (112.0, 120.0)]
    found = summarised(runs, 2)
    assert found["launches"] == 2
    assert found["busy_ms"] == pytest.approx(0.018)
    assert found["device_ms"] == pytest.approx(0.020)
    assert summarised([], 2)["launches"] is None
    assert summarised(runs[:3], 2)["launches"] is None


@pytest.mark.parametrize("variant", ["eager float32", "eager bf16"])
def test_rivals_of_several_robots_plan_what_the_reference_plans(
    variant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Fewer than there are, as in large cells.
    monkeypatch.setattr(plans, "COMPARED_ROBOTS", 2)
    monkeypatch.setattr(plans, "COMPARED_SAMPLES", 7)
    fields = dataclasses.asdict(Cell("tiny", 4, 9, (2, 1), threads=1, robots=3))
    question = {"cell": {**fields, "steps": [2, 1]}, "device": "cpu"}
    prepared = plans.prepare(variant, question)
    actions, states, scores = prepared.run()
    assert actions.shape == (3, 9, 32, 3)
    assert states.shape == (3, 9, 32, 11)
    assert scores.shape == (3, 9)
    assert prepared.facts["launches"] is None or torch.cuda.is_available()


def test_a_plan_that_is_not_the_references_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> object:
        work = plans.compared_work(one)
        outputs = plans.reference(work, torch.device("cpu"))
        shaped = [x.reshape(one.robots, one.num_samples, *x.shape[1:]) for x in outputs]
        return lambda: [shaped[0] + 0.5, *shaped[1:]]

    one = Cell("tiny", 4, 5, (1, 1), threads=1)
    monkeypatch.setattr(plans, "our_plan", wrong)
    question = {"cell": dataclasses.asdict(one), "device": "cpu"}
    with pytest.raises(RuntimeError, match="not the reference's"):
        plans.prepare("cuda bf16", question)


def test_our_plan_is_a_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Cell("tiny", 4, 5, (1, 1), threads=1, robots=2)
    question = {"cell": dataclasses.asdict(one), "device": "cpu"}
    monkeypatch.setattr(plans, "rounding_of", lambda variant: "float32")
    assert plans.prepare("torch float32", question).facts["parity"]["rank"] == 1.0


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_read_of_l2_reads_everything_as_often_as_it_says() -> None:
    script = (
        "import torch; from benchmarks.gpu import l2; out = torch.zeros(5);"
        "data = torch.arange(3.0).repeat_interleave(l2.BLOCK) + 1; l2.read(data, out, 2);"
        "assert (out == 2 * 6 * l2.BLOCK).all(), out"
    )
    # Triton decides once a process whether it interprets kernels.
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False,
        cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
