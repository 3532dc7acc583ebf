"""The command as a whole: without a GPU, and with processes in a GPU's place that measure nothing."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import __main__ as command
from benchmarks.gpu import build, cells, checks
from benchmarks.gpu.deadline import Deadline
from benchmarks.gpu.phases import PHASES, Tools
from benchmarks.gpu.report import Report
from dmpc_fast import triton_availability
from dmpc_fast.triton_availability import KernelsUnavailableError

STUB = str(Path(__file__).with_name("gpu_stub.py"))
FEW = ["--presets", "tiny", "--robots", "1", "--samples", "64", "256", "--steps", "1+1"]


def pytest_check(*lines: str, status: int = 0, name: str = "conformance stub") -> checks.Check:
    script = f"import sys; print({chr(10).join(lines)!r}); sys.exit({status})"
    return checks.Check(name, [sys.executable, "-S", "-c", script], tests=True)


PASSING = pytest_check(
    "tests/a.py::test_one[x-y] PASSED [ 50%]", "tests/a.py::test_two SKIPPED (no)"
)


def no_sanitizer() -> list[checks.Check]:
    raise FileNotFoundError("compute-sanitizer is not installed")


def tools(
    *behaviours: str,
    tests: tuple[checks.Check, ...] = (PASSING,),
    sanitizer: Callable[[], list[checks.Check]] = no_sanitizer,
) -> Tools:
    def worker(kind: str, variant: str) -> list[str]:
        return [sys.executable, "-S", STUB, kind, variant, *behaviours]

    return Tools(worker, lambda *_: {"status": "there"}, lambda: list(tests), sanitizer, "stub")


def run(out: Path, own: Tools, *arguments: str) -> tuple[int, dict[str, Any]]:
    args = command.parser().parse_args(
        ["--out", str(out), "--seconds", "0.01", "--target-seconds", "0.01", *arguments]
    )
    status = command.run(args, own)
    return status, json.loads((out / "gpu.json").read_text(encoding="utf-8"))


def test_without_a_gpu_it_says_so_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if command.refusal() is None:
        pytest.skip("this machine has a GPU")
    assert command.main(["--out", str(tmp_path / "results")]) == 2
    assert "nothing to measure: " in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_the_interpreter_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert "interpreter" in str(command.refusal())


def test_all_phases_in_order_each_written_as_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[dict[str, Any]] = []
    write = Report.write

    def kept(report: Report) -> None:
        write(report)
        written.append(json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8")))

    monkeypatch.setattr(Report, "write", kept)
    status, report = run(tmp_path, tools(), *FEW)
    assert status == 0
    assert tuple(report["phases"]) == PHASES
    assert [len(one["rows"]) for one in written] == sorted(len(one["rows"]) for one in written)
    assert len(written) > len(PHASES)
    # Two groups, each in bf16 and again in the other precisions.
    assert len(report["rows"]) == 2 * 12
    assert {row["variant"] for row in report["rows"]} == {*cells.OURS, *cells.RIVALS}
    assert all(row["floor_fraction"] > 0 for row in report["rows"])
    assert report["phases"]["checks"]["sanitizer_absent"] == "compute-sanitizer is not installed"
    assert report["phases"]["checks"]["rows"][0]["outcomes"] == {"passed": 1, "skipped": 1}
    assert len(report["training"]) == 2 * len(cells.TRAINING)
    printed = capsys.readouterr().out
    assert "sanitizer: compute-sanitizer is not installed" in printed
    if importlib.util.find_spec("matplotlib"):
        assert sorted(report["plots"]) == ["floor.png", "latency.png", "training.png"]
        assert all((tmp_path / name).stat().st_size > 1000 for name in report["plots"])
    assert len(list(tmp_path.iterdir())) <= 8


def test_without_matplotlib_plots_are_left_out_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, report = run(tmp_path, tools(), *FEW[:-1], "1+1", "--phases", "peaks")
    assert (status, report["plots"]) == (0, [])
    assert "no plots: matplotlib is not installed" in capsys.readouterr().out


def test_rivals_that_fail_are_rows_and_ours_are_failures(tmp_path: Path) -> None:
    few = [*FEW, "--phases", "peaks", "cells"]
    status, report = run(tmp_path / "a", tools("compile bf16=crash", "eager tf32=refuse"), *few)
    assert status == 0
    errors = {row["variant"]: row["error"] for row in report["rows"] if "error" in row}
    assert set(errors) == {"compile bf16", "eager tf32"}
    status, report = run(tmp_path / "b", tools("triton bf16=crash"), *few)
    assert status == 1
    assert report["phases"]["cells"]["status"] == "failed"


def test_fused_training_steps_that_fail_are_failures(tmp_path: Path) -> None:
    few = [*FEW, "--phases", "peaks", "training"]
    status, report = run(tmp_path / "a", tools("graphs torch=refuse"), *few)
    assert (status, report["phases"]["training"]["status"]) == (0, "passed")
    status, report = run(tmp_path / "b", tools("compile triton=crash"), *few)
    assert (status, report["phases"]["training"]["status"]) == (1, "failed")
    assert {row["variant"] for row in report["training"] if "error" in row} == {"compile triton"}


def test_tests_that_fail_or_hang_do_not_stop_the_rest(tmp_path: Path) -> None:
    failing = pytest_check(
        "tests/a.py::test_one PASSED [ 50%]", "tests/a.py::test_two[1] FAILED [100%]", "E  assert",
        status=1, name="failing",
    )  # fmt: skip
    slow = "import time; print('tests/b.py::test_it PASSED', flush=True); time.sleep(600)"
    hanging = checks.Check("hanging", [sys.executable, "-S", "-c", slow], tests=True)
    begin = time.monotonic()
    rows = checks.run([failing, hanging, PASSING], Deadline(2))
    assert time.monotonic() - begin < 8
    assert [row["status"] for row in rows] == ["failed", "not finished", "passed"]
    assert rows[0]["failed"] == ["tests/a.py::test_two[1]"]
    assert rows[0]["tail"][-1] == "E  assert"
    assert rows[1]["outcomes"] == {"passed": 1}
    status, report = run(
        tmp_path, tools(tests=(failing,)), *FEW, "--phases", "peaks", "checks", "cells"
    )
    assert status == 1
    assert report["phases"]["checks"]["status"] == "failed"
    assert report["phases"]["cells"]["status"] == "passed"


def test_the_sanitizer_on_the_path_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / checks.SANITIZER
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$2"\n[ "$2" = racecheck ] && exit 86\nexit 0\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    rows = checks.run(checks.sanitizer(), Deadline(20))
    assert len(rows) == 9
    found = {row["name"]: row["status"] for row in rows}
    assert found["memcheck cuda"] == found["synccheck training"] == "passed"
    assert found["racecheck cuda"] == "failed"
    assert rows[3]["reason"] == "errors were found"
    assert rows[3]["tail"] == ["racecheck"]


def test_the_sanitizer_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    with pytest.raises(FileNotFoundError, match="compute-sanitizer is not installed"):
        checks.sanitizer()


def test_time_that_is_up_leaves_cells_out_by_name(tmp_path: Path) -> None:
    begin = time.monotonic()
    few = [*FEW, "--phases", "targets", "training", "cells", "--minutes", "0.2"]
    status, report = run(tmp_path, tools(), *few)
    assert time.monotonic() - begin < 10
    assert status == 0
    assert not report["rows"]
    assert "tiny-p1-n64-1+1-t1 bf16: no time" in report["left_out"]
    assert "train tiny 256: no time" in report["left_out"]


def test_peaks_that_fail_leave_rows_without_floors(tmp_path: Path) -> None:
    status, report = run(tmp_path, tools("all=refuse"), *FEW, "--phases", "peaks", "cells")
    assert status == 1
    assert all("floor_ms" not in row and row["median_ms"] > 0 for row in report["rows"])


def test_a_build_that_cannot_be_made_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "newest_source", lambda: float("inf"))
    monkeypatch.setattr(build, "NEEDED", ("cmake", "no-such-program"))
    found = build.build(Deadline(1), tmp_path / "log", tmp_path)
    assert found["status"] == "failed"
    assert "no-such-program" in found["reason"]
    assert build.architecture("no-such-library.so") == "90a-real"


def test_the_small_plan_runs_on_any_backend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.gpu import small_plan

    monkeypatch.setattr(sys, "argv", ["small_plan", "torch", "float32"])
    small_plan.main()
    assert "torch float32: best" in capsys.readouterr().out


def test_the_small_training_step_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from benchmarks.gpu import small_training_step

    monkeypatch.setattr(sys, "argv", ["small_training_step", "torch", "bf16"])
    small_training_step.main()
    assert "torch bf16: loss" in capsys.readouterr().out


def test_checks_name_files_that_there_are() -> None:
    for path in (*checks.HOST_TESTS, *checks.TRAINING_TESTS):
        assert (checks.ROOT / path).is_file()


def test_training_steps_are_the_trainers(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.gpu import training_steps

    monkeypatch.setattr(training_steps, "STEPS", 2)
    monkeypatch.setattr(training_steps, "WARM_UP", 1)
    question = {"preset": "tiny", "batch_size": 3, "device": "cpu"}
    prepared = training_steps.prepare("eager torch", question)
    assert prepared.facts["steps_per_run"] == 2
    if triton_availability.refusal() is not None:
        with pytest.raises(KernelsUnavailableError):
            training_steps.prepare("eager triton", question)
    # Every step learns.
    assert float(prepared.run()) != prepared.facts["loss"]
