"""Checks on the device: the tests of every GPU backend, and compute-sanitizer on a small plan of each.

All run at the same time, each in a process of its own, until a deadline; what one has printed by then is
its result.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.gpu.deadline import Deadline
from benchmarks.gpu.processes import ROOT, environment, stop

#: A test's line in pytest's verbose output.
_TEST = re.compile(r"^(\S+::.+?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
#: Of a failed check, so many lines from its end are kept.
TAIL = 25
POLL_S = 0.05
SANITIZER = "compute-sanitizer"
TOOLS = ("memcheck", "racecheck", "synccheck")
#: Tests of the kernels of training, which are compiled for every case; and those that need no GPU.
TRAINING_TESTS = tuple(f"tests/kernels/test_fused_{name}.py" for name in ("blocks", "training"))
HOST_TESTS = ("tests/kernels/test_compiles.py",)
#: Status with which the sanitizer ends where it has found something.
FOUND = 86


@dataclass(frozen=True)
class Check:
    """name: for the report. command: what is run. tests: whether it is pytest's."""

    name: str
    command: Sequence[str]
    tests: bool = False
    changes: dict[str, str] = field(default_factory=dict)


def tests() -> list[Check]:
    """The suite of all backends, for each GPU backend, and the tests of the Triton kernels, those of
    training apart from the others."""
    # -W: what another version of a library warns of is no failure here.
    pytest = [sys.executable, "-m", "pytest", "-v", "-W", "default", "-p", "no:cacheprovider"]
    return [
        Check("conformance cuda", [*pytest, "tests/conformance", "-k", "cuda"], tests=True),
        Check("conformance triton", [*pytest, "tests/conformance", "-k", "triton"], tests=True),
        Check(
            "kernels triton",
            [*pytest, "tests/kernels", *(f"--ignore={p}" for p in (*HOST_TESTS, *TRAINING_TESTS))],
            tests=True,
        ),
        Check("training triton", [*pytest, *TRAINING_TESTS], tests=True),
    ]


def sanitizer() -> list[Check]:
    """A small plan of each backend, and a small training step with fused blocks, under each tool;
    raises FileNotFoundError where there is none."""
    program = shutil.which(SANITIZER) or shutil.which(SANITIZER, path="/usr/local/cuda/bin")
    if program is None:
        raise FileNotFoundError(f"{SANITIZER} is not installed")
    runs = {
        "cuda": ("small_plan", "cuda", "bf16"),
        "triton": ("small_plan", "triton", "bf16"),
        "training": ("small_training_step", "triton", "bf16"),
    }
    return [
        Check(
            f"{tool} {name}",
            [program, "--tool", tool, "--error-exitcode", str(FOUND), sys.executable, "-m",
             f"benchmarks.gpu.{module}", *arguments],
            # Every tensor an allocation of its own, whose ends are watched; graphs need torch's pool.
            changes={"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"} if name == "training" else {},
        )
        for tool in TOOLS
        for name, (module, *arguments) in runs.items()
    ]  # fmt: skip


def run(checks: Sequence[Check], deadline: Deadline) -> list[dict[str, Any]]:
    """A row for each check: name, status, seconds; of tests, how many there were of each outcome and
    which failed. status: ``passed``, ``failed`` or ``not finished``."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, str(number)) for number in range(len(checks))]
        processes = [_start(*pair) for pair in zip(checks, outputs, strict=True)]
        try:
            ended = _wait(processes, deadline)
        finally:
            for process in processes:
                stop(process)
        rows = []
        for check, output, (status, seconds) in zip(checks, outputs, ended, strict=True):
            text = output.read_text(encoding="utf-8", errors="replace")
            rows.append(row_of(check, status, text) | {"seconds": round(seconds, 1)})
        return rows


def _wait(
    processes: Sequence[subprocess.Popen[Any]], deadline: Deadline
) -> list[tuple[int | None, float]]:
    """Status, None where there is none yet, and seconds of each process when all have ended or the
    deadline has passed."""
    begin = deadline.remaining()
    ended: dict[int, tuple[int | None, float]] = {}
    while len(ended) < len(processes) and not deadline.passed:
        for number, process in enumerate(processes):
            if number not in ended and process.poll() is not None:
                ended[number] = (process.returncode, begin - deadline.remaining())
        time.sleep(POLL_S)
    return [ended.get(number, (None, begin)) for number in range(len(processes))]


def row_of(check: Check, status: int | None, text: str) -> dict[str, Any]:
    """The row of a check that ended with `status`, None where it did not."""
    named = "not finished" if status is None else "passed" if status == 0 else "failed"
    row: dict[str, Any] = {"name": check.name, "status": named}
    lines = text.strip().splitlines()
    if check.tests:
        found = [match.groups() for match in map(_TEST.match, lines) if match]
        row["outcomes"] = dict(Counter(outcome.lower() for _, outcome in found))
        row["failed"] = sorted({name for name, outcome in found if outcome in ("FAILED", "ERROR")})
        if status == 5:
            row["reason"] = "no test ran: the backend is unavailable"
    elif status == FOUND:
        row["reason"] = "errors were found"
    if named != "passed":
        row["tail"] = lines[-TAIL:]
    return row


def _start(check: Check, output: Path) -> subprocess.Popen[Any]:
    with output.open("w", encoding="utf-8") as stream:
        return subprocess.Popen(
            check.command, stdout=stream, stderr=subprocess.STDOUT, cwd=ROOT,
            env=environment(check.changes), start_new_session=True,
        )  # fmt: skip
