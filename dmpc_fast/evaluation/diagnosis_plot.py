"""A diagnosis as one figure of six panels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dmpc_fast.evaluation.figure_file import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Labels and colours of the ways to choose a candidate.
CHOICES = {
    "oracle": ("best by truth", "tab:green"),
    "true_states": ("J on true states", "tab:blue"),
    "true_rewards": ("true rewards + value", "tab:orange"),
    "predicted": ("J on predicted states (planner)", "tab:red"),
}
RANKS = {
    "J_predicted_with_return": "J, predicted states",
    "J_true_states_with_return": "J, true states",
    "true_rewards_with_return": "true rewards + value",
    "repeatability": "return, other\ncontinuation",
    "reward": "reward part\n(its own truth)",
    "value": "value part\n(its own truth)",
}


def plot_diagnosis(path: Path, report: dict[str, Any]) -> None:
    """Draw the report of a `Diagnosis`, be it read from its JSON; `path` ends in .png, .svg or .pdf
    and appears when whole."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    _draw_errors(axes[0, 0], report)
    _draw_dimensions(axes[0, 1], report)
    _draw_executed(axes[0, 2], report["calibration"]["executed"])
    _draw_ranks(axes[1, 0], report["calibration"]["rank_correlation"])
    _draw_gains(axes[1, 1], report)
    _draw_costs(axes[1, 2], report["verdict"])
    settings, latency = report["settings"], report["latency"]
    figure.suptitle(
        f"{Path(settings['model']).name} in {settings['environment']}: plan "
        f"{latency['median_ms']:.1f} ms median, {latency['p99_ms']:.1f} ms p99, of "
        f"{latency['period_ms']:.0f} ms"
    )
    save_figure(figure, path, dpi=80)


def _draw_errors(axes: Axes, report: dict[str, Any]) -> None:
    for name, label, color in (
        ("executed", "error, chosen candidate", "tab:red"),
        ("unchanged", "error of no change", "tab:gray"),
        ("spread", "candidates' true spread", "tab:green"),
        ("difference", "error of their differences", "tab:orange"),
    ):
        rows = report["dynamics"][name]
        known = [(step + 1, *row) for step, row in enumerate(rows) if row is not None]
        steps, low, middle, high = np.array(known).T
        axes.plot(steps, middle, color=color, label=label, marker="." if len(steps) < 10 else None)
        axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
    axes.set_yscale("log")
    axes.set_title("dynamics: median over starts, and quartiles")
    axes.set_xlabel("step")
    axes.set_ylabel("rms, in std of the data")
    axes.legend(fontsize=8)


def _draw_dimensions(axes: Axes, report: dict[str, Any]) -> None:
    from matplotlib.ticker import MaxNLocator

    errors = report["dynamics"]["by_dimension"]
    axes.bar(np.arange(len(errors)), errors, color="tab:red")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title("dynamics: error at the last step, by state dimension")
    axes.set_xlabel("state dimension")
    axes.set_ylabel("median absolute error, in std")


def _draw_executed(axes: Axes, executed: dict[str, Any]) -> None:
    if executed["plans"] > 1:
        predicted, realized = executed["predicted"], executed["realized"]
        axes.scatter(predicted, realized, s=5, alpha=0.4)
        axes.axline((float(np.mean(realized)),) * 2, slope=1, color="black", linewidth=1)
        axes.set_title(f"executed plans: rank correlation {_number(executed['rank_correlation'])}")
    else:
        axes.text(0.5, 0.5, "the episodes are too short to tell", ha="center", va="center")
        axes.set_title("executed plans")
    axes.set_xlabel("predicted return (discounted)")
    axes.set_ylabel("realised")


def _number(value: float | None) -> str:
    return "unknown" if not _is_known(value) else f"{value:.2f}"


def _is_known(value: float | None) -> bool:
    """Whether there is a number; a report read from JSON has null where there is none."""
    return value is not None and not np.isnan(value)


def _draw_ranks(axes: Axes, ranks: dict[str, Any]) -> None:
    names = list(RANKS)[::-1]
    for row, name in enumerate(names):
        known = np.array([value for value in ranks[name]["each"] if _is_known(value)])
        axes.scatter(known, np.full(len(known), row), s=14, alpha=0.4, color="tab:blue")
        if len(known):
            axes.plot([known.mean()] * 2, [row - 0.3, row + 0.3], color="black", linewidth=2)
    axes.set_yticks(np.arange(len(names)), [RANKS[name] for name in names], fontsize=8)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_xlim(-1.05, 1.05)
    axes.set_title("rank correlation with the true return: starts, mean")


def _draw_gains(axes: Axes, report: dict[str, Any]) -> None:
    choice = report["choice"]
    counts = choice["counts"]
    for name, (label, color) in CHOICES.items():
        means = np.array([entry["mean"] for entry in choice[name]])
        # Where rewards are well predicted, two of the curves coincide.
        style = "--" if name == "true_rewards" else "-"
        axes.plot(counts, means, style, marker=".", color=color, label=label)
    random = choice["predicted"][0]["mean"]
    axes.axhline(random, color="black", linewidth=1, linestyle="--", label="any candidate (N = 1)")
    axes.set_xscale("log", base=4)
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_title("true return of the chosen candidate")
    axes.set_xlabel("candidates N")
    axes.set_ylabel("discounted return")
    axes.margins(y=0.1)
    axes.legend(fontsize=7, loc="upper left", framealpha=0.6)


def _draw_costs(axes: Axes, verdicts: dict[str, Any]) -> None:
    names = ("dynamics", "objective", "diversity", "time")
    groups = [name for name in ("at_rest", "running") if name in verdicts]
    width = 0.8 / len(groups)
    for index, group in enumerate(groups):
        costs = [verdicts[group]["costs"][name] for name in names]
        places = np.arange(len(names)) + (index - (len(groups) - 1) / 2) * width
        axes.bar(
            places,
            [100 * cost["share"] for cost in costs],
            width,
            yerr=[
                100 * cost["standard_error"] / max(abs(verdicts[group]["predicted"]), 1e-9)
                for cost in costs
            ],
            label=f"{group.replace('_', ' ')} ({verdicts[group]['starts']} starts)",
            color="tab:orange" if group == "at_rest" else "tab:blue",
        )
    axes.axhline(0, color="black", linewidth=1)
    axes.set_xticks(np.arange(len(names)), names)
    axes.set_title("what each fault costs")
    axes.set_ylabel("% of the planner's true return")
    axes.legend(fontsize=8)
