"""The phases of the command, in the order of what they teach, each with a share of the time.

Nothing that fails in one keeps the next from running: what failed stands in the report.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.gpu import build, checks
from benchmarks.gpu.cells import OURS, TRAINING, Group, schedule, target_ms, too_large
from benchmarks.gpu.deadline import Deadline
from benchmarks.gpu.floors import Device
from benchmarks.gpu.processes import Worker, WorkerError
from benchmarks.gpu.report import (
    Report,
    check_line,
    plan_line,
    plan_row,
    training_line,
    training_row,
)
from benchmarks.gpu.turns import Team

PHASES = ("build", "peaks", "checks", "targets", "training", "cells")
#: Seconds that a phase may take at most; the others take what is left.
LIMITS_S = {"build": 150.0, "peaks": 45.0, "checks": 120.0, "targets": 240.0, "training": 90.0}
#: Seconds that preparing a group may take: compiling the rivals' networks is most of it.
PREPARE_S = 75.0
#: With less than this left no group is begun. What is kept for plots and the end.
LEAST_S, RESERVE_S = 15.0, 8.0
TRAINING_BATCHES = (256, 4096)
#: How the error of a worker begins whose backend, precision of it, or kernels are not there.
UNAVAILABLE = ("BackendUnavailableError", "KernelsUnavailableError")


@dataclass(frozen=True)
class Tools:
    """How the phases reach the world; tests put others in place.

    worker: the command of a worker of a kind and a variant. build: builds the extension. tests,
    sanitizer: what is checked. device: what torch calls it.
    """

    worker: Callable[[str, str], list[str]]
    build: Callable[[Deadline, Path], dict[str, Any]]
    tests: Callable[[], list[checks.Check]]
    sanitizer: Callable[[], list[checks.Check]]
    device: str = "cuda"


def tools() -> Tools:
    """Those of a machine with a GPU."""

    def worker(kind: str, variant: str) -> list[str]:
        return [sys.executable, "-m", "benchmarks.gpu.worker", kind, variant]

    return Tools(worker, build.build, checks.tests, checks.sanitizer)


class Session:
    """One run of the command.

    args: of the command line. end: when everything must have ended.
    """

    def __init__(self, args: argparse.Namespace, report: Report, end: Deadline, own: Tools) -> None:
        self._args, self._report, self._tools = args, report, own
        self._end = end.within(end.remaining(), reserve=RESERVE_S)
        self._device: Device | None = None
        self._log_path = args.out / "log.txt"
        self._log_path.write_text("", encoding="utf-8")
        chosen = (args.presets, args.robots, args.samples, args.steps)
        self._groups = schedule(*chosen)
        report.data["left_out"] = [f"{cell.name}: too much work" for cell in too_large(*chosen)]

    def run(self) -> bool:
        """All phases that were asked for; whether nothing of ours failed."""
        ok = True
        for name in PHASES:
            if name not in self._args.phases:
                continue
            before = self._end.remaining()
            result = getattr(self, f"_{name}")(self._end.within(LIMITS_S.get(name, before)))
            seconds = round(before - self._end.remaining(), 1)
            self._report.data["phases"][name] = {"seconds": seconds, **result}
            self._report.write()
            ok = ok and result.get("status", "passed") != "failed"
        return ok

    def _build(self, deadline: Deadline) -> dict[str, Any]:
        result = self._tools.build(deadline, self._log_path)
        print(f"build: {result['status']} {result.get('reason', '')}".rstrip(), flush=True)
        return result

    def _peaks(self, deadline: Deadline) -> dict[str, Any]:
        with self._open_log() as log, closing(self._worker("peaks", "all", log)) as worker:
            worker.send({"prepare": {}})
            try:
                facts = worker.receive(deadline)
            except WorkerError as error:
                print(f"peaks: {error}", flush=True)
                return {"status": "failed", "reason": str(error)}
        self._device = Device(
            facts["processors"], facts["flops"], facts["l2_bytes"], "l2_assumed" in facts
        )
        peaks = ", ".join(f"{name} {value:.0f}" for name, value in facts["flops"].items())
        assumed = " (assumed)" if self._device.l2_assumed else ""
        print(
            f"{facts['name']}: TFLOP/s {peaks}; L2 {facts['l2_bytes']:.1f} TB/s{assumed}",
            flush=True,
        )
        return {"status": "passed", **facts}

    def _checks(self, deadline: Deadline) -> dict[str, Any]:
        every, absent = self._tools.tests(), None
        try:
            every += self._tools.sanitizer()
        except FileNotFoundError as error:
            absent = str(error)
            print(f"sanitizer: {absent}", flush=True)
        rows = checks.run(every, deadline)
        for row in rows:
            print(check_line(row), flush=True)
        failed = any(row["status"] == "failed" for row in rows)
        return {
            "status": "failed" if failed else "passed",
            "rows": rows,
            "sanitizer_absent": absent,
        }

    def _targets(self, deadline: Deadline) -> dict[str, Any]:
        held = [group for group in self._groups if target_ms(group.cells[0]) is not None]
        return self._latency(held, deadline)

    def _cells(self, deadline: Deadline) -> dict[str, Any]:
        others = [group for group in self._groups if target_ms(group.cells[0]) is None]
        return self._latency(others, deadline)

    def _latency(self, groups: Sequence[Group], deadline: Deadline) -> dict[str, Any]:
        """Rows of all groups that there is time for."""
        failed = False
        for group in groups:
            if deadline.remaining() < LEAST_S:
                names = [f"{cell.name} {group.variants[0].split()[1]}" for cell in group.cells]
                self._report.data["left_out"] += [f"{name}: no time" for name in names]
                continue
            with self._team("plans", group.variants) as team:
                for cell in group.cells:
                    if deadline.passed:
                        self._report.data["left_out"].append(f"{cell.name}: no time")
                        continue
                    aimed = target_ms(cell) is not None
                    seconds = self._args.target_seconds if aimed else self._args.seconds
                    rows = team.measure(
                        {"cell": asdict(cell), "device": self._tools.device},
                        prepare=deadline.within(PREPARE_S), seconds=seconds, end=deadline,
                    )  # fmt: skip
                    for name, measured in rows.items():
                        row = plan_row(cell, name, measured, self._device)
                        failed = failed or (name in OURS and broken(row))
                        self._report.data["rows"].append(row)
                        print(plan_line(row), flush=True)
                    self._report.write()
        return {"status": "failed" if failed else "passed"}

    def _training(self, deadline: Deadline) -> dict[str, Any]:
        """Samples a second of a training step, for each preset that there is time for."""
        failed = False
        for batch_size in TRAINING_BATCHES:
            for preset in self._args.presets:
                label = f"train {preset} {batch_size}"
                if deadline.remaining() < LEAST_S:
                    self._report.data["left_out"].append(f"{label}: no time")
                    continue
                with self._team("training_steps", TRAINING) as team:
                    question = {
                        "preset": preset, "batch_size": batch_size, "device": self._tools.device,
                    }  # fmt: skip
                    rows = team.measure(
                        question, prepare=deadline.within(PREPARE_S), seconds=self._args.seconds,
                        end=deadline,
                    )  # fmt: skip
                for name, measured in rows.items():
                    row = training_row(preset, batch_size, name, measured)
                    failed = failed or (name.endswith("triton") and broken(row))
                    self._report.data["training"].append(row)
                    print(training_line(row), flush=True)
                self._report.write()
        return {"status": "failed" if failed else "passed"}

    @contextmanager
    def _team(self, kind: str, variants: tuple[str, ...]) -> Iterator[Team]:
        with self._open_log() as log:
            team = Team(variants, lambda name: self._worker(kind, name, log))
            try:
                yield team
            finally:
                team.close()

    def _worker(self, kind: str, variant: str, log: IO[Any]) -> Worker:
        return Worker(self._tools.worker(kind, variant), log)

    def _open_log(self) -> IO[Any]:
        return self._log_path.open("a", encoding="utf-8")


def broken(row: Mapping[str, Any]) -> bool:
    """Whether a row of ours failed, other than by saying that this build has no such precision."""
    return not str(row.get("error", UNAVAILABLE[0])).startswith(UNAVAILABLE)
