"""Everything that there is to measure on a GPU, in one command that writes as it goes.

python -m benchmarks.gpu --out DIR [--presets paper small] [--samples 64 256 1024]
    [--steps 1+1 32+10] [--seconds 2] [--minutes 9] [--no-tests]

First the backends' tests on the GPU itself, then each cell (preset, N, steps): the backends `cuda` and
`triton` in their precisions and torch, eager and compiled, in turns in one loop, parity with the
float64 reference checked before. DIR/gpu.json holds times, the share of the floor that the measured
peak of products sets, launches, and targets; it is complete after every cell. Without a GPU the
command says so and ends with status 2.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dmpc_fast.backends.triton import availability

OURS = ("cuda float32", "cuda bf16", "triton float32", "triton tf32", "triton bf16")
#: Milliseconds of a plan that are aimed at, one robot, by (preset, N, steps).
TARGETS_MS = {
    ("paper", 64, (32, 10)): 5.0,
    ("paper", 64, (1, 1)): 0.35,
    ("paper", 1024, (1, 1)): 3.7,
    ("small", 64, (1, 1)): 0.06,
}
TESTS = ("tests/kernels", "tests/conformance")
TEST_SECONDS = 150
#: Side of the square product that a peak is measured with, and products per measurement.
PEAK_SIDE, PEAK_PRODUCTS = 8192, 20


def refusal() -> str | None:
    """Why nothing can be measured here, None where it can."""
    if availability.interpreted():
        return "TRITON_INTERPRET=1 is set: Triton's interpreter runs on the CPU"
    return availability.refusal()


def cells(args: argparse.Namespace) -> Iterator[Any]:
    """The chosen cells, those with a target first."""
    from benchmarks.workload import Cell

    steps = [(int(first), int(second)) for first, second in (s.split("+") for s in args.steps)]
    every = list(itertools.product(args.presets, args.samples, steps))
    for preset, count, pair in sorted(every, key=lambda cell: cell not in TARGETS_MS):
        yield Cell(preset, 1, count, pair, threads=1)


def target(cell: Any, median_s: float) -> dict[str, Any]:
    """The cell's target and whether a median reaches it; nothing where there is none."""
    aim = TARGETS_MS.get((cell.preset, cell.num_samples, cell.steps))
    return {} if aim is None else {"target_ms": aim, "reached": 1e3 * median_s <= aim}


def measure_cell(cell: Any, seconds: float, peaks: dict[str, float]) -> list[dict[str, Any]]:
    """A row per variant; those that could not be measured hold `error`."""
    import torch

    from benchmarks import gpu_rivals
    from benchmarks.baselines import parity
    from benchmarks.flops import plan_work
    from benchmarks.workload import prepare
    from dmpc_fast.backends.base import BackendUnavailableError
    from dmpc_fast.latency import Budget, measure

    work, device = prepare(cell), torch.device("cuda")
    expected = parity.reference(work)
    rows: dict[str, dict[str, Any]] = {}
    runs: dict[str, Callable[[], object]] = {}
    for name in (*OURS, *gpu_rivals.RIVALS):
        row: dict[str, Any] = {"cell": cell.name, "variant": name}
        rows[name] = row
        begin = time.monotonic()
        ours = name in OURS
        try:
            plan = our_plan(name, work) if ours else gpu_rivals.prepare(name, work, device)
            row["parity"] = asdict(parity.compare(plan(), expected, work, rounding_of(name)))
            row["launches"] = launches(plan)
        except BackendUnavailableError as error:
            row["error"] = str(error)
        # One rival's failure, of whatever kind its library raises, is its row's content.
        except Exception as error:
            if ours:
                raise
            row["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        else:
            runs[name] = plan
        row["preparation_s"] = round(time.monotonic() - begin, 1)
    flops = plan_work(work.model.spec, cell.num_samples, *cell.steps)["plan"].flops
    for name, samples in measure(runs, Budget(100_000, seconds * len(runs))).items():
        summary = samples.summary()
        floor = flops / peaks[peak_of(name)]
        rows[name] |= asdict(summary) | {
            "tflops": flops / summary.median_s / 1e12,
            "floor_ms": 1e3 * floor,
            "floor_fraction": floor / summary.median_s,
            **target(cell, summary.median_s),
        }
    return list(rows.values())


def rounding_of(variant: str) -> str:
    """The dtype whose parity bound a variant must keep: TF32 has bf16's or better."""
    return "float32" if variant.endswith("float32") else "bf16"


def peak_of(variant: str) -> str:
    return variant.split()[1]


def our_plan(name: str, work: Any) -> Callable[[], list[Any]]:
    """A plan of the variant "backend dtype", from a request in host memory to results in host memory."""
    from dmpc_fast.backends.registry import create

    chosen, dtype = name.split()
    backend, request = create(chosen, work.model, dtype=dtype), work.request()

    def plan() -> list[Any]:
        result = backend.plan(request)
        return [result.actions[0], result.states[0], result.scores[0]]

    plan()  # compiles, and captures the graph that later calls replay
    return plan


def launches(plan: Callable[[], object]) -> int:
    """Kernels that one plan runs on the device, those of a replayed graph included."""
    import torch
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        plan()
        torch.cuda.synchronize()
    cuda = torch.autograd.DeviceType.CUDA
    names = [event.name for event in profiler.events() if event.device_type == cuda]
    return sum(not name.startswith(("Memcpy", "Memset")) for name in names)


def measured_peaks() -> dict[str, float]:
    """FLOP/s of a large product in each precision."""
    import torch

    found = {}
    for name, dtype, precision in (
        ("float32", torch.float32, "highest"),
        ("tf32", torch.float32, "high"),
        ("bf16", torch.bfloat16, "highest"),
    ):
        torch.set_float32_matmul_precision(precision)
        a = torch.randn(PEAK_SIDE, PEAK_SIDE, device="cuda", dtype=dtype)
        b = a @ a
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(PEAK_PRODUCTS):
            torch.mm(a, a, out=b)
        end.record()
        torch.cuda.synchronize()
        seconds = begin.elapsed_time(end) * 1e-3 / PEAK_PRODUCTS
        found[name] = 2.0 * PEAK_SIDE**3 / seconds
    return found


def run_tests(seconds: float) -> dict[str, Any]:
    """The backend's own tests and the suite of all backends, compiled for this GPU."""
    command = [sys.executable, "-m", "pytest", "-q", *TESTS, "-k", "kernels or triton or cuda"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=seconds, env=os.environ
        )
    except subprocess.TimeoutExpired:
        return {"status": None, "summary": f"not ready after {seconds:.0f} s"}
    lines = done.stdout.strip().splitlines() or [done.stderr.strip()[-300:]]
    return {"status": done.returncode, "summary": lines[-1], "failed": lines[-20:]}


def write(report: dict[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / "gpu.partial"
    partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / "gpu.json")


def line(row: dict[str, Any]) -> str:
    """A row for a person to read."""
    start = f"{row['cell']:24}{row['variant']:18}"
    if "median_s" not in row:
        return start + row.get("error", "not measured")
    aim = f"   target {row['target_ms']} ms" if "target_ms" in row else ""
    return (
        f"{start}{1e3 * row['median_s']:9.3f} ms{row['tflops']:8.1f} TFLOP/s"
        f"{100 * row['floor_fraction']:6.0f} % of floor{row['launches']:6d} launches{aim}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--presets", nargs="+", default=["paper", "small"])
    parser.add_argument("--samples", nargs="+", type=int, default=[64, 256, 1024])
    parser.add_argument("--steps", nargs="+", default=["1+1", "32+10"])
    parser.add_argument("--seconds", type=float, default=2.0, help="of measuring a variant")
    parser.add_argument("--minutes", type=float, default=9.0, help="begin no cell after so long")
    parser.add_argument("--no-tests", action="store_true")
    return parser


def main(arguments: list[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    reason = refusal()
    if reason is not None:
        print(f"nothing to measure: {reason}", file=sys.stderr)
        return 2
    import torch

    from dmpc_fast.cli.bench import machine

    end = time.monotonic() + 60 * args.minutes
    device = torch.cuda.get_device_properties(0)
    report: dict[str, Any] = {
        "machine": machine(),
        "gpu": {"name": device.name, "processors": device.multi_processor_count},
        "tests": None if args.no_tests else run_tests(TEST_SECONDS),
        "peaks_tflops": {},
        "rows": [],
        "left_out": [],
    }
    peaks = measured_peaks()
    report["peaks_tflops"] = {name: value / 1e12 for name, value in peaks.items()}
    write(report, args.out)
    for cell in cells(args):
        if time.monotonic() > end:
            report["left_out"].append(cell.name)
        else:
            for row in measure_cell(cell, args.seconds, peaks):
                report["rows"].append(row)
                print(line(row), flush=True)
        write(report, args.out)
    tests = report["tests"]
    return 0 if tests is None or tests["status"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
