"""The engine's kernels one by one, and its matrix products against a library's.

python -m benchmarks.kernels [tiny small small:4 paper] [--json out.json] [--library] [--clock cpu]

Builds csrc/bench/kernels with CMake and runs it: microseconds of one evaluation of 64 candidates in
each kernel, as the engine runs it, with its FLOPs, bytes and share of the measured peak. --library
times oneDNN's products as torch offers them (mm in float32 and bfloat16, _int_mm on bytes), one thread,
on the rows of one chunk and on all rows at once. Theirs only multiply; ours add the bias and finish
with GELU, the residual or rounding, and in int8 with the scales that `_int_mm` leaves to its caller.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peaks import PEAK_OF, ROOT, measured_peaks
from benchmarks.workload import HORIZON
from dmpc_fast.cli.bench import machine
from dmpc_fast.spec import StageSpec, preset_stages

CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.thread_time_ns}
BUILD = ROOT / "build" / "bench"
CANDIDATES = 64
#: Products of a block: columns and depth from its sizes.
PRODUCTS = {
    "qkv": lambda s: (3 * s.heads * s.head_size, s.width),
    "projection": lambda s: (s.width, s.heads * s.head_size),
    "mlp_in": lambda s: (s.mlp, s.width),
    "mlp_out": lambda s: (s.width, s.mlp),
}


def engine_rows(name: str, seconds: float, clock: str) -> Iterator[dict[str, Any]]:
    """A row per precision and kernel of one evaluation; `all` is the evaluation without clocks."""
    sizes, patch = _sizes(name)
    shape = (sizes.layers, sizes.width, sizes.heads, sizes.head_size, sizes.mlp, patch, HORIZON)
    command = [str(_program()), *map(str, (*shape, CANDIDATES, seconds, clock))]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    peaks = measured_peaks(1)
    for dtype, kernels in found.items():
        total = sum(row.get("mflop", 0.0) for row in kernels.values())
        for kernel, row in kernels.items():
            if not row["us"]:  # a single token has no qkv and no attention
                continue
            mflop = total if kernel == "all" else row["mflop"]
            gflops, peak = 1e3 * mflop / row["us"], peaks[PEAK_OF[dtype]]
            yield {
                "model": name,
                "clock": clock,
                "dtype": dtype,
                "kernel": kernel,
                "us": row["us"],
                "mflop": mflop,
                "kib": row.get("kib"),
                "gflops": gflops,
                "peak_fraction": None if peak is None else gflops / peak,
            }


def library_rows(name: str, seconds: float, clock: str) -> Iterator[dict[str, Any]]:
    """A row per product, precision and number of rows, in torch."""
    import torch

    torch.set_num_threads(1)
    sizes, patch = _sizes(name)
    peaks = measured_peaks(1)
    for kernel, shape in PRODUCTS.items():
        columns, depth = shape(sizes)
        for rows in (128, CANDIDATES * HORIZON // patch):
            for dtype in PEAK_OF:
                kind = {"float32": torch.float32, "bf16": torch.bfloat16, "int8": torch.int8}[dtype]
                a = torch.randint(-100, 100, (rows, depth)).to(kind)
                b = torch.randint(-100, 100, (depth, columns)).to(kind)
                out = torch.empty(rows, columns, dtype=torch.int32 if dtype == "int8" else kind)
                multiply = torch._int_mm if dtype == "int8" else torch.mm
                run = partial(multiply, a, b, out=out)
                best = _least(run, seconds, CLOCKS[clock])
                gflops, peak = 2e-9 * rows * columns * depth / best, peaks[PEAK_OF[dtype]]
                yield {
                    "model": name,
                    "clock": clock,
                    "dtype": dtype,
                    "kernel": kernel,
                    "rows": rows,
                    "us": 1e6 * best,
                    "gflops": gflops,
                    "peak_fraction": None if peak is None else gflops / peak,
                }


def _sizes(name: str) -> tuple[StageSpec, int]:
    preset, _, patch = name.partition(":")
    return preset_stages(preset)["proposal"], int(patch or 1)


def _program() -> Path:
    """csrc/bench/kernels, built if need be. Raises subprocess.CalledProcessError where it fails."""
    options = ["-DCMAKE_BUILD_TYPE=Release", "-DDMPC_BENCH=ON", "-DDMPC_PYTHON=OFF"]
    options += ["-DBUILD_TESTING=OFF"]
    for command in (
        ["cmake", "-S", str(ROOT), "-B", str(BUILD), *options],
        ["cmake", "--build", str(BUILD), "--target", "kernels", "--parallel"],
    ):
        subprocess.run(command, check=True, stdout=sys.stderr)
    return BUILD / "kernels"


def _least(run: Callable[[], object], seconds: float, clock: Callable[[], int]) -> float:
    best, end = float("inf"), time.monotonic() + seconds
    while time.monotonic() < end:
        begin = clock()
        for _ in range(4):
            run()
        best = min(best, 1e-9 * (clock() - begin) / 4)
    return best


def line(row: dict[str, Any]) -> str:
    """A row for a person to read."""
    share = row["peak_fraction"]
    rows = f" {row['rows']} rows" if "rows" in row else ""
    return (
        f"{row['model']:10}{row['dtype']:9}{row['kernel'] + rows:22}{row['us']:11.1f} us"
        f"{row['gflops']:9.0f} GFLOP/s{'' if share is None else f'{100 * share:6.0f} %'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", default=["tiny", "small", "small:4", "paper"])
    parser.add_argument("--seconds", type=float, default=1.0, help="per precision or product")
    parser.add_argument("--library", action="store_true", help="torch's products beside ours")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: of the thread")
    parser.add_argument("--json", type=Path, help="written, or added to")
    args = parser.parse_args()
    report: dict[str, Any] = {"engine": [], "library": []}
    if args.json and args.json.exists():
        report = json.loads(args.json.read_text(encoding="utf-8"))
    for name in args.models:
        for row in engine_rows(name, args.seconds, args.clock):
            print(line(row), flush=True)
            report["engine"].append(row)
        for row in library_rows(name, args.seconds / 10, args.clock) if args.library else ():
            print(f"torch  {line(row)}", flush=True)
            report["library"].append(row)
    if args.json:
        report |= {"machine": machine(), "peaks": measured_peaks(1), "load": os.getloadavg()}
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
