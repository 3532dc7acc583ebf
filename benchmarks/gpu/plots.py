"""Latency against N, the share of the floor, and training throughput, from a report.

python -m benchmarks.gpu.plots DIR: draws DIR/gpu.json once more.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.cells import OURS, PRESETS
from benchmarks.gpu.report import NAME

Row = Mapping[str, Any]


def plot(report: Mapping[str, Any], folder: Path) -> list[str]:
    """Write PNG files to `folder`; their names. Raises ModuleNotFoundError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    rows = [row for row in report["rows"] if "median_ms" in row]
    one = [row for row in rows if row["robots"] == 1]
    files = []
    if one:
        _curves(one, "median_ms", "median ms of a plan", folder / "latency.png", log=True)
        files.append("latency.png")
    shares = [row for row in one if "floor_fraction" in row]
    if shares:
        _curves(shares, "floor_fraction", "share of the floor", folder / "floor.png", log=False)
        files.append("floor.png")
    trained = [row for row in report["training"] if "samples_per_s" in row]
    if trained:
        _bars(trained, folder / "training.png")
        files.append("training.png")
    return files


def _curves(rows: Sequence[Row], field: str, label: str, path: Path, *, log: bool) -> None:
    """A panel for each preset and number of steps, a line for each variant, against N."""
    import matplotlib.pyplot as plt

    presets = [name for name in PRESETS if any(row["preset"] == name for row in rows)]
    steps = sorted({tuple(row["steps"]) for row in rows})
    figure, panels = plt.subplots(
        len(steps), len(presets), figsize=(5 * len(presets), 3.6 * len(steps)), squeeze=False,
        constrained_layout=True,
    )  # fmt: skip
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    colours = {name: f"C{number % 10}" for number, name in enumerate(variants)}
    for i, pair in enumerate(steps):
        for j, preset in enumerate(presets):
            axis = panels[i][j]
            own = [row for row in rows if row["preset"] == preset and tuple(row["steps"]) == pair]
            for variant, points in _lines(own, field).items():
                xs, ys = zip(*sorted(points), strict=True)
                style = "o-" if variant in OURS else "s:"
                axis.plot(xs, ys, style, label=variant, color=colours[variant], markersize=4)
            floor = {row["num_samples"]: row.get("floor_ms") for row in own if _coarse(row)}
            if field == "median_ms" and any(floor.values()):
                xs, ys = zip(*sorted((x, y) for x, y in floor.items() if y), strict=True)
                axis.plot(xs, ys, color="grey", linewidth=1, label="floor, bf16")
            axis.set_xscale("log", base=2)
            axis.set_yscale("log" if log else "linear")
            axis.set(
                title=f"{preset}, {pair[0]}+{pair[1]} steps", xlabel="candidates N", ylabel=label
            )
            axis.grid(True, which="both", alpha=0.2)
            if own:
                axis.legend(fontsize=6)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _coarse(row: Row) -> bool:
    return bool(row["variant"].endswith("bf16"))


def _lines(rows: Sequence[Row], field: str) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        lines[row["variant"]].append((row["num_samples"], row[field]))
    return lines


def _bars(rows: Sequence[Row], path: Path) -> None:
    """Samples a second by preset and batch size, a bar for each variant."""
    import matplotlib.pyplot as plt

    key: Callable[[Row], str] = lambda row: f"{row['preset']}\n{row['batch_size']}"  # noqa: E731
    places = list(dict.fromkeys(map(key, rows)))
    variants = list(dict.fromkeys(row["variant"] for row in rows))
    figure, axis = plt.subplots(figsize=(2 + 2 * len(places), 4), constrained_layout=True)
    width = 0.8 / len(variants)
    for number, variant in enumerate(variants):
        own = {key(row): row["samples_per_s"] for row in rows if row["variant"] == variant}
        xs = [places.index(place) + number * width for place in own]
        axis.bar(xs, list(own.values()), width, label=variant)
    axis.set_xticks([i + 0.4 - width / 2 for i in range(len(places))], places)
    axis.set(yscale="log", ylabel="samples a second", xlabel="preset and batch size")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    out = Path(sys.argv[1])
    print(*plot(json.loads((out / NAME).read_text(encoding="utf-8")), out), sep="\n")
