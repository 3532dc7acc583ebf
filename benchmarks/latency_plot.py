"""Latency against N, horizon, width and steps, from the grid's results: is the growth linear?

python -m benchmarks.latency_plot benchmarks/results/latency/scaling.json --out latency.png
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import NullLocator

#: What is varied, and what it is of a row; everything else is as in the row that `BASE` describes.
AXES: dict[str, Callable[[dict[str, Any]], float]] = {
    "candidates N": lambda row: row["num_samples"],
    "horizon F": lambda row: row["horizon"],
    "width": lambda row: row["width"] or 128,
    "evaluations of proposal and dynamics": lambda row: sum(row["steps"]),
}
BASE = {"num_samples": 64, "horizon": 32, "width": None, "steps": [1, 1]}
FIELDS = dict(zip(AXES, ("num_samples", "horizon", "width", "steps"), strict=True))


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Four panels, a line per variant, both axes logarithmic, with guides of slope one."""
    figure, panels = plt.subplots(2, 2, figsize=(11, 8), constrained_layout=True)
    for axis, (name, of) in zip(panels.flat, AXES.items(), strict=True):
        lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for row in rows:
            others = {key: value for key, value in BASE.items() if key != FIELDS[name]}
            if "error" not in row and all(row[key] == value for key, value in others.items()):
                lines[row["variant"]].append((of(row), 1e3 * row["median_s"]))
        for variant, points in lines.items():
            xs, ys = zip(*sorted(points), strict=True)
            own = variant.startswith("cpu ")
            label = variant.replace("cpu ", "dmpc_fast ")
            axis.plot(xs, ys, "o-" if own else "s:", linewidth=2 if own else 1, label=label)
            if own:
                guide = [ys[0] * x / xs[0] for x in xs]
                axis.plot(xs, guide, color="grey", linewidth=0.5, zorder=0)
        axis.set(xscale="log", yscale="log", xlabel=name, ylabel="median ms per plan")
        ticks = sorted({of(row) for row in rows})
        axis.set_xticks(
            [tick for tick in ticks if axis.get_xlim()[0] <= tick <= axis.get_xlim()[1]]
        )
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_locator(NullLocator())
        axis.grid(True, which="both", alpha=0.2)
    panels[0, 0].legend(fontsize=8)
    row = rows[0]
    figure.suptitle(
        f"{row['preset']}, patch {row['patch']}, {row['threads']} thread(s); grey: linear growth"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    plot(json.loads(args.report.read_text(encoding="utf-8"))["rows"], args.out)


if __name__ == "__main__":
    main()
