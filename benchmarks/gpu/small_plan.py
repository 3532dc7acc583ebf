"""One small plan of a backend, for tools that watch every access: python -m ... BACKEND DTYPE."""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.workload import Cell, prepare
from dmpc_fast.backends.registry import create

CELL = Cell("tiny", 4, 9, (2, 1), threads=1, robots=2)


def main() -> None:
    backend, dtype = sys.argv[1:]
    work = prepare(CELL)
    plan = create(backend, work.model, dtype=dtype).plan(work.request())
    if not np.isfinite(plan.scores).all():
        raise SystemExit(f"scores are not finite: {plan.scores}")
    print(f"{backend} {dtype}: best {plan.best.tolist()}")


if __name__ == "__main__":
    main()
