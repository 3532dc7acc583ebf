"""Everything that there is to measure on a GPU, in one command that writes as it goes.

python -m benchmarks.gpu --out DIR [--phases build peaks checks targets training cells]
    [--presets paper small tiny] [--robots 1 16 256] [--samples 64 256 1024] [--steps 1+1 2+1 32+10]
    [--minutes 9]

A checkout needs torch, triton, numpy and pytest, and to build the backend `cuda`: pybind11, cmake,
ninja and nvcc. Phases, in this order: the extension is built where it is missing; peaks of products
and of L2; the tests of every GPU backend, beside compute-sanitizer where it is present; latency of the
cells with a target; training throughput; latency of all other cells. Variants of a cell (the backends
`cuda` and `triton`, torch eager and compiled with CUDA graphs, each in its precisions) run in turns,
every one in a process of its own, after its plan has been compared with the float64 reference.

DIR/gpu.json is complete after every step. Everything ends within --minutes. Status 0: nothing of ours
failed; 1: something did; 2: there is no GPU, which the command says.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.gpu import cells, plots
from benchmarks.gpu.deadline import Deadline
from benchmarks.gpu.phases import PHASES, Session, Tools, tools
from benchmarks.gpu.report import Report
from dmpc_fast import triton_availability as availability
from dmpc_fast.cli.bench import machine, steps


def refusal() -> str | None:
    """Why nothing can be measured here, None where it can."""
    if availability.interpreted():
        return "TRITON_INTERPRET=1 is set: Triton's interpreter runs on the CPU"
    return availability.refusal()


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0]
    )
    found.add_argument("--out", type=Path, required=True, help="folder of the results")
    found.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    found.add_argument("--presets", nargs="+", choices=cells.PRESETS, default=list(cells.PRESETS))
    found.add_argument("--robots", nargs="+", type=int, default=list(cells.ROBOTS))
    found.add_argument("--samples", nargs="+", type=int, default=list(cells.SAMPLES))
    found.add_argument("--steps", nargs="+", type=steps, default=list(cells.STEPS), metavar="P+D")
    found.add_argument(
        "--target-seconds",
        type=float,
        default=2.0,
        help="of measuring a variant of a target's cell",
    )
    found.add_argument("--seconds", type=float, default=0.5, help="of measuring any other variant")
    found.add_argument("--minutes", type=float, default=9.0, help="everything ends within these")
    return found


def run(args: argparse.Namespace, own: Tools) -> int:
    """All phases, the plots, and the status."""
    end = Deadline(60 * args.minutes)
    report = Report(args.out)
    report.data["machine"] = machine()
    report.write()
    ok = Session(args, report, end, own).run()
    try:
        report.data["plots"] = plots.plot(report.data, args.out)
    except ModuleNotFoundError as error:
        report.data["plots"] = []
        print(f"no plots: {error.name} is not installed", flush=True)
    report.data["seconds"] = round(60 * args.minutes - end.remaining(), 1)
    report.write()
    print(f"{args.out / 'gpu.json'}: {report.data['seconds']} s", flush=True)
    return 0 if ok else 1


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    reason = refusal()
    if reason is not None:
        print(f"nothing to measure: {reason}", file=sys.stderr)
        return 2
    return run(args, tools())


if __name__ == "__main__":
    sys.exit(main())
