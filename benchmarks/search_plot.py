"""Return over the processor time of a plan: one round of candidates, further rounds, warm starts.

    python -m benchmarks.search_plot benchmarks/results/distill/search/hopper-n*.json \
      --title hopper --out benchmarks/results/distill/search/hopper.png

Reads what `python -m benchmarks.iterated_ssr` wrote, of one model and its own objective.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

#: Kinds of arms in the order of the legend, with their lines.
KINDS = {
    "one round": "o-",
    "one round, half from the plan before": "s--",
    "two rounds or more": "D--",
    "second round of few (late pruning)": "^",
}


def kind(settings: dict[str, Any]) -> str:
    """Which kind an arm of these settings is."""
    if settings["rounds"]:
        pruned = settings["children"] is not None
        return "second round of few (late pruning)" if pruned else "two rounds or more"
    return "one round, half from the plan before" if settings["warm"] else "one round"


def read(paths: list[Path]) -> dict[str, list[tuple[float, float, float, str]]]:
    """By kind: (ms, score, its standard error, label) of every arm, by time."""
    found: dict[str, list[tuple[float, float, float, str]]] = {}
    for path in paths:
        data = json.loads(path.read_text("utf-8"))
        settings, score = data["settings"], data["summary"]["score"]
        first, further = settings["num_samples"], settings["children"] or settings["num_samples"]
        label = f"{first}" + f" + {further}" * settings["rounds"]
        row = (data["search"]["plan_cpu_ms"], score["mean"], score["standard_error"], label)
        found.setdefault(kind(settings), []).append(row)
    return {name: sorted(found[name]) for name in KINDS if name in found}


def plot(rows: dict[str, list[tuple[float, float, float, str]]], title: str, path: Path) -> None:
    """One line a kind, candidates beside each point."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullLocator

    figure, axis = plt.subplots(figsize=(6.5, 4), constrained_layout=True)
    for name, arms in rows.items():
        times, scores, errors, labels = zip(*arms, strict=True)
        axis.errorbar(
            times, scores, errors, fmt=KINDS[name], capsize=3, linewidth=1, markersize=5, label=name
        )
        above = name != "one round"
        for time, score, label in zip(times, scores, labels, strict=True):
            axis.annotate(
                label,
                (time, score),
                xytext=(-4, 8) if above else (6, -12),
                textcoords="offset points",
                fontsize=8,
            )
    axis.set(
        xlabel="ms of processor time per plan (one thread)",
        ylabel="D4RL-normalised score, mean ± s.e.",
        title=f"{title}: by candidates of each round",
        xscale="log",
    )
    axis.set_xticks([t for t in (1, 2, 3, 4, 6, 8, 12, 16, 24) if t < 1.3 * axis.get_xlim()[1]])
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(NullLocator())
    axis.margins(x=0.15, y=0.15)
    axis.grid(True, which="both", alpha=0.2)
    axis.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--title", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    plot(read(args.files), args.title, args.out)


if __name__ == "__main__":
    main()
