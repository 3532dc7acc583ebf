"""The gates as one figure of six panels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dmpc_fast.evaluation.figure_file import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = {"student": "tab:red", "teacher": "tab:blue", "split": "tab:gray"}
LABELS = {"student": "student", "teacher": "teacher", "split": "teacher, other noise"}
#: The largest value that the panel of bounds shows.
MAX_SHOWN = 3.0


def plot_gates(path: Path, report: dict[str, Any]) -> None:
    """Draw the report of `GatesReport`, be it read from its JSON; `path` ends in .png, .svg or .pdf
    and appears when whole."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(15, 8.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    _draw_bounds(axes[0, 0], report["gates"])
    _draw_curves(axes[0, 1], report["best_of_n"], "proposal", "proposals, one judge")
    _draw_curves(axes[0, 2], report["best_of_n"], "plan", "whole plans, each by its own dynamics")
    _draw_errors(axes[1, 0], report["prediction_error"])
    _draw_ranks(axes[1, 1], report["rank_correlation"])
    _draw_realized(axes[1, 2], report["realized"])
    settings = report["settings"]
    student, teacher = settings["steps"]["student"], settings["steps"]["teacher"]
    figure.suptitle(
        f"{Path(settings['student']).name} at {student[0]} + {student[1]} steps against "
        f"{Path(settings['teacher']).name} at {teacher[0]} + {teacher[1]}: "
        f"{'passed' if report['passed'] else 'not passed'}"
    )
    save_figure(figure, path, dpi=80)


def _draw_bounds(axes: Axes, gates: list[dict[str, Any]]) -> None:
    for row, gate in enumerate(gates):
        low, high = gate["bound"]
        left = 0.0 if low is None else low
        axes.barh(row, (MAX_SHOWN if high is None else high) - left, left=left, color="0.9")
        color = "tab:green" if gate["passed"] else "tab:red"
        ends = np.minimum(gate["interval_90"], MAX_SHOWN)
        axes.plot(ends, [row, row], color=color, linewidth=1)
        beyond = gate["value"] > MAX_SHOWN
        value = min(gate["value"], MAX_SHOWN)
        axes.plot(value, row, ">" if beyond else "o", color=color, markersize=5)
    names = [gate["name"] + ("" if gate["target"] else " *") for gate in gates]
    axes.set_yticks(range(len(gates)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, MAX_SHOWN * 1.02)
    axes.set_title("gates and their bounds (grey; * no target)")
    axes.set_xlabel("relative to the teacher")


def _draw_curves(axes: Axes, report: dict[str, Any], kind: str, title: str) -> None:
    for name, curve in report[kind].items():
        style = "--" if name == "split" else "-"
        axes.plot(
            report["counts"], curve, style, marker=".", color=COLORS[name], label=LABELS[name]
        )
    axes.set_xscale("log", base=2)
    axes.set_title(f"best J of N: {title}")
    axes.set_xlabel("N")
    axes.set_ylabel("J, mean over states")
    axes.legend(fontsize=8)


def _draw_errors(axes: Axes, report: dict[str, Any]) -> None:
    for name, curves in report.items():
        steps = np.arange(1, 1 + len(curves["mean"]))
        axes.plot(steps, curves["mean"], color=COLORS[name], label=f"{name}, mean")
        axes.plot(steps, curves["median"], ":", color=COLORS[name], label=f"{name}, median")
    axes.set_title("open-loop error against the data")
    axes.set_xlabel("step")
    axes.set_ylabel("rms, in std of the data")
    axes.legend(fontsize=8)


def _draw_ranks(axes: Axes, report: dict[str, list[float]]) -> None:
    axes.scatter(report["split"], report["student"], s=12, color="tab:red")
    low = min(0.0, *report["split"], *report["student"])
    axes.plot([low, 1], [low, 1], color="black", linewidth=1)
    axes.set_title("rank correlation of J at each state")
    axes.set_xlabel("teacher with itself, other noise")
    axes.set_ylabel("student with teacher")


def _draw_realized(axes: Axes, report: dict[str, Any] | None) -> None:
    axes.set_title("return from each plan on (discounted)")
    known = {name: part for name, part in (report or {}).items() if "predicted" in part}
    if not known:
        axes.text(0.5, 0.5, "no episodes were driven", ha="center", va="center")
        return
    for name, part in known.items():
        axes.scatter(part["predicted"], part["realized"], s=6, color=COLORS[name], label=name)
    middle = float(np.mean([part["mean_realized"] for part in known.values()]))
    axes.axline((middle, middle), slope=1, color="black", linewidth=1)
    axes.set_xlabel("predicted")
    axes.set_ylabel("realised")
    axes.legend(fontsize=8)
