"""Measured peaks of this machine: products by precision and reads by level of memory.

python -m benchmarks.peaks

Compiles csrc/bench/peaks.cpp with the C++ compiler (`CXX`, or c++) and runs it, once per thread count;
the result is kept under build/ until the program changes.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "csrc" / "bench" / "peaks.cpp"
CACHE = ROOT / "build" / "peaks"
#: Where a precision's peak stands in the program's output, both in 10^9 operations a second.
PEAK_OF = {"float32": "float32_gflops", "bf16": "bf16_gflops", "int8": "int8_gops"}


def measured_peaks(threads: int = 1, *, again: bool = False) -> dict[str, Any]:
    """What `threads` threads reach together, as csrc/bench/peaks.cpp prints it.

    again: measure even where a result is kept. Raises RuntimeError where the program does not
    compile or run.
    """
    digest = hashlib.sha256(SOURCE.read_bytes() + platform.processor().encode()).hexdigest()[:16]
    kept = CACHE / f"{digest}-{threads}.json"
    if kept.exists() and not again:
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    CACHE.mkdir(parents=True, exist_ok=True)
    program = CACHE / f"peaks-{digest}"
    compiler = os.environ.get("CXX", "c++")
    options = ("-O2", "-std=c++20", "-pthread")
    _run([compiler, *options, str(SOURCE), "-o", str(program)])
    text = _run([str(program), str(threads)])
    kept.write_text(text, encoding="utf-8")
    return dict(json.loads(text))


def fraction(flops: float, seconds: float, dtype: str, threads: int) -> float | None:
    """Share of the measured peak of `dtype`; None where the machine lacks its instruction."""
    peak = measured_peaks(threads)[PEAK_OF[dtype]]
    return None if peak is None else flops / seconds / (peak * 1e9)


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    most = len(os.sched_getaffinity(0))
    for count in sorted({1, most}):
        json.dump(measured_peaks(count, again=True), sys.stdout, indent=1)
        print()
