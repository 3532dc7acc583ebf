"""The engine of this checkout against that of another one, in turns: what a change gained.

    git worktree add ../before COMMIT && (cd ../before && pip wheel . --no-deps -w wheels)
    python -m zipfile -e ../before/wheels/dmpc_fast-*.whl ../before
    taskset -c 1 python -m benchmarks.versions ../before --presets tiny small --dtypes bf16 int8

Both make the plans of `benchmarks.workload` (N = 64, F = 32, 1 + 1, one thread), each in a process of
its own, a few at a time by turns. Processor time, so that other work on the machine counts little; the
ratio is other over this, above 1 where this checkout is faster.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

#: Runs in either checkout: a line in starts some plans, a line out says what one took.
WORKER = """
import sys, time
from benchmarks.workload import Cell, prepare
from dmpc_fast.backends.cpu_backend import CpuBackend
preset, patch, dtype, plans = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
work = prepare(Cell(preset, patch, 64, (1, 1), 1))
backend, request = CpuBackend(work.model, dtype=dtype, threads=1), work.request()
backend.plan(request)
for _ in sys.stdin:
    begin = time.process_time_ns()
    for _ in range(plans):
        backend.plan(request)
    print((time.process_time_ns() - begin) / plans, flush=True)
"""


def measure(
    checkouts: list[Path], preset: str, patch: int, dtype: str, *, rounds: int, plans: int
) -> list[list[float]]:
    """Milliseconds a plan, for each checkout those of each round."""
    command = [sys.executable, "-c", WORKER, preset, str(patch), dtype, str(plans)]
    workers = [
        subprocess.Popen(
            command, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for checkout in checkouts
    ]
    taken: list[list[float]] = [[] for _ in workers]
    try:
        for _ in range(rounds):
            for worker, times in zip(workers, taken, strict=True):
                assert worker.stdin is not None and worker.stdout is not None
                worker.stdin.write("go\n")
                worker.stdin.flush()
                answer = worker.stdout.readline()
                if not answer:
                    raise RuntimeError(f"the engine in {worker.args!r:.80} ended: see above")
                times.append(float(answer) / 1e6)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path, help="a checkout whose engine is built in place")
    parser.add_argument("--presets", nargs="+", default=["tiny", "small"])
    parser.add_argument("--patch", type=int, default=1)
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bf16", "int8"])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--plans", type=int, default=4, help="in a row")
    args = parser.parse_args()
    if not list((args.other / "dmpc_fast").glob("_engine*.so")):
        raise FileNotFoundError(f"{args.other} has no dmpc_fast/_engine*.so: build it in place")
    own = Path(__file__).resolve().parent.parent
    for preset in args.presets:
        for dtype in args.dtypes:
            other, this = measure(
                [args.other, own], preset, args.patch, dtype, rounds=args.rounds, plans=args.plans
            )
            ratio = statistics.median(a / b for a, b in zip(other, this, strict=True))
            print(
                f"{preset} patch {args.patch} {dtype}: {statistics.median(other):.2f} ms before, "
                f"{statistics.median(this):.2f} ms now, ratio {ratio:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
