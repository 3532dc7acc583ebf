"""One plan on the engine and on what users would pick instead, in turns, parity checked first.

python -m benchmarks.grid --out benchmarks/results/latency/grid.json [--presets small] [--samples 64]
    [--steps 1+1] [--threads 1] [--patches 1] [--variants "cpu bf16" "OpenVINO bf16"]
    [--seconds 60] [--plans 100] [--warmup 3] [--clock cpu] [--settle 0.02 --turn 5]

Cells (preset, patch, N, steps, threads) are measured one after another; within a cell all variants run
in one loop. Every finished cell is written at once, and a run continues where the file ends. Weights
are random, of Hopper's sizes. A variant that cannot run, or does not plan what the float64 reference
plans, has its reason in place of a time. The clock is `wall`, or `cpu`: the processor time of this
process, for a single thread on a machine that has other work.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.baselines import parity, rivals
from benchmarks.flops import plan_work
from benchmarks.peaks import PEAK_OF, measured_peaks
from benchmarks.workload import HORIZON, Cell, Work, prepare
from dmpc_fast.backends.cpu_backend import CpuBackend
from dmpc_fast.backends.registry import create
from dmpc_fast.cli.bench import machine
from dmpc_fast.latency import WARMUP_ROUNDS, Budget, measure

ENGINE = tuple(f"cpu {dtype}" for dtype in ("float32", "bf16", "int8"))
VARIANTS = (*ENGINE, *rivals.DTYPES)
#: Whose versions decide the rivals' times.
LIBRARIES = ("torch", "onnxruntime", "openvino", "nncf")
SECONDS = 60.0


#: What a row's seconds are.
CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.process_time_ns}


def measure_cell(
    cell: Cell,
    names: list[str],
    budget: Budget,
    say: Callable[[str], None],
    *,
    clock: str = "wall",
    settle_s: float = 0.0,
    turn: int = 1,
    warmup: int = WARMUP_ROUNDS,
) -> list[dict[str, Any]]:
    """A row per variant; those that could not be measured hold `error`."""
    work = prepare(cell)
    expected = parity.reference(work)
    rows, runs = {}, {}
    for name in names:
        begin = time.monotonic()
        row: dict[str, Any] = {**cell.to_json(), "variant": name, "dtype": name.rsplit(" ", 1)[1]}
        rows[name] = row
        try:
            run, outputs = ready(name, work)
            found = parity.compare(outputs(), expected, work, row["dtype"])
        # One rival's failure, of whatever kind its library raises, is its row's content.
        except Exception as error:
            if name in ENGINE:
                raise
            row["error"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        else:
            row["parity"] = asdict(found)
            if found.holds:
                runs[name] = run
            else:
                row["error"] = "its plan is not the reference's"
        row["preparation_s"] = round(time.monotonic() - begin, 1)
        say(f"  {name}: {row.get('error', 'ready')} ({row['preparation_s']} s)")
    if runs:
        flops = plan_work(work.model.spec, cell.num_samples, *cell.steps)["plan"].flops
        peaks = measured_peaks(cell.threads)
        measured = measure(
            runs, budget, warmup=warmup, clock=CLOCKS[clock], settle_s=settle_s, turn=turn
        )
        for name, samples in measured.items():
            summary = samples.summary()
            peak = peaks[PEAK_OF[rows[name]["dtype"]]]
            rows[name] |= asdict(summary) | {
                "clock": clock,
                "settle_s": settle_s,
                "turn": turn,
                "warmup": warmup,
                "gflop": flops / 1e9,
                "peak_fraction": None if peak is None else flops / summary.median_s / peak / 1e9,
            }
    return list(rows.values())


def ready(name: str, work: Work) -> tuple[Callable[[], object], Callable[[], list[np.ndarray]]]:
    """What is timed, and a plan's outputs. The engine draws its own noise, which `work` repeats."""
    if name not in ENGINE:
        plan = rivals.prepare(name, work)
        return plan, plan
    backend = create("cpu", work.model, dtype=name.split()[1], threads=work.cell.threads)
    assert isinstance(backend, CpuBackend)
    request, spec = work.request(), work.model.spec
    # As `Planner.act` calls it.
    repeated = backend.repeated(request, num_elites=1)
    observation, chosen = request.states[0, -1], np.zeros((1, spec.horizon, spec.action_size), "f4")

    def outputs() -> list[np.ndarray]:
        result = backend.plan(request)
        return [result.actions[0], result.states[0], result.scores[0]]

    def act() -> None:
        if not repeated.observe(observation) or repeated.plan(chosen) is None:
            raise RuntimeError("the engine refused to plan")

    return act, outputs


def cells(args: argparse.Namespace) -> Iterator[Cell]:
    """The chosen cells, cheap ones first."""
    steps = [tuple(map(int, text.split("+"))) for text in args.steps]
    for preset, patch, count, pair, threads in itertools.product(
        args.presets, args.patches, args.samples, steps, args.threads
    ):
        for horizon in args.horizons:
            for width in args.widths or [None]:
                yield Cell(preset, patch, count, pair, threads, horizon, width)


def line(row: dict[str, Any]) -> str:
    """A row for a person to read."""
    start = f"{row['name']:28}{row['variant']:24}"
    if "error" in row:
        return f"{start}{row['error']}"
    share, p99 = row["peak_fraction"], row["p99_s"]
    return (
        f"{start}{1e3 * row['median_s']:10.3f} ms"
        f"{'         -' if p99 is None else f'{1e3 * p99:10.3f}'} p99"
        f"{'' if share is None else f'{100 * share:6.0f} % of peak'}"
        f"   score error {row['parity']['scores']:.4f}  rank {row['parity']['rank']:.4f}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--presets", nargs="+", default=["tiny", "small", "paper"])
    parser.add_argument("--patches", nargs="+", type=int, default=[1])
    parser.add_argument("--samples", nargs="+", type=int, default=[16, 64, 256])
    parser.add_argument("--steps", nargs="+", default=["1+1", "2+1", "4+2", "32+10"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--horizons", nargs="+", type=int, default=[HORIZON])
    parser.add_argument("--widths", nargs="+", type=int, help="in place of the preset's")
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME"
    )
    parser.add_argument("--plans", type=int, default=1000, help="samples of each variant, at most")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of measuring per cell")
    parser.add_argument(
        "--warmup", type=int, default=WARMUP_ROUNDS, metavar="ROUNDS",
        help="untimed before (%(default)s); 1 will do for plans of many seconds",
    )  # fmt: skip
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument(
        "--settle", type=float, default=0.0, metavar="S",
        help="seconds of untimed plans when a variant's turn comes: rivals leave threads spinning",
    )  # fmt: skip
    parser.add_argument("--turn", type=int, default=1, help="samples of a variant in a row")
    return parser


def main() -> None:
    args = _parser().parse_args()
    logging.disable(logging.WARNING)  # what exporters and quantisers have to say
    warnings.simplefilter("ignore")
    report: dict[str, Any] = {"rows": []}
    if args.out.exists():
        report = json.loads(args.out.read_text(encoding="utf-8"))
    done = {(row["name"], row["variant"]) for row in report["rows"]}
    report["machine"] = {**machine(), "rivals": dict(_versions())}
    report["peaks"] = {str(threads): measured_peaks(threads) for threads in args.threads}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    for cell in cells(args):
        names = [name for name in args.variants if (cell.name, name) not in done]
        if not names:
            continue
        print(cell.name, flush=True)
        budget = Budget(args.plans, args.seconds)
        rows = measure_cell(
            cell, names, budget, lambda text: print(text, flush=True),
            clock=args.clock, settle_s=args.settle, turn=args.turn, warmup=args.warmup,
        )  # fmt: skip
        for row in rows:
            report["rows"].append(row)
            print(line(row), flush=True)
        partial = args.out.with_suffix(".partial")
        partial.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        partial.replace(args.out)


def _versions() -> Iterator[tuple[str, str]]:
    from importlib.metadata import PackageNotFoundError, version

    for name in LIBRARIES:
        with contextlib.suppress(PackageNotFoundError):
            yield name, version(name)


if __name__ == "__main__":
    main()
