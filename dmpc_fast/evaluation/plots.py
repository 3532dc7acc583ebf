"""Pictures of an evaluation: how returns spread, and predictions beside what happened."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dmpc_fast.evaluation.evaluate import EvaluationResult
from dmpc_fast.evaluation.figure_file import save_figure
from dmpc_fast.evaluation.trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: State dimensions that are drawn.
MAX_DIMENSIONS = 4
MAX_CANDIDATES = 24


def plot_evaluation(path: Path, result: EvaluationResult, trace: Trace) -> None:
    """Draw returns per episode, predicted against realised return, and candidates' predicted states
    over what happened; `path` ends in .png, .svg or .pdf and appears when it is whole."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    dimensions = min(MAX_DIMENSIONS, trace.states.shape[1])
    figure = Figure(figsize=(11, 3.5 + 2.0 * dimensions), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1 + dimensions, 2, height_ratios=[1.6] + [1.0] * dimensions)
    _draw_returns(figure.add_subplot(grid[0, 0]), result)
    _draw_calibration(figure.add_subplot(grid[0, 1]), trace)
    for row in range(dimensions):
        axes = figure.add_subplot(grid[1 + row, :])
        _draw_states(axes, trace, row)
        if row == dimensions - 1:
            axes.set_xlabel("step")
    save_figure(figure, path, dpi=120)


def _draw_returns(axes: Axes, result: EvaluationResult) -> None:
    values = result.returns if result.scores is None else result.scores
    colors = np.where(result.terminated, "tab:red", "tab:blue")
    axes.bar(np.arange(len(values)), values, color=list(colors))
    axes.axhline(float(values.mean()), color="black", linewidth=1, linestyle="--")
    axes.set_title("each episode (red: terminated; dashed: mean)")
    axes.set_xlabel("episode")
    axes.set_ylabel("return" if result.scores is None else "normalised score")


def _draw_calibration(axes: Axes, trace: Trace) -> None:
    known = trace.complete[trace.plan_steps]
    steps, predicted = trace.plan_steps[known], trace.predicted[known]
    realized = trace.realized[steps]
    if len(steps):
        points: Any = axes.scatter(predicted, realized, c=steps, s=8, cmap="viridis")
        axes.figure.colorbar(points, ax=axes, label="step")
        axes.axline((float(realized.mean()),) * 2, slope=1, color="black", linewidth=1)
    else:
        axes.text(0.5, 0.5, "the episode is too short to tell", ha="center", va="center")
    axes.set_title("return from each plan on: predicted and realised")
    axes.set_xlabel("predicted (discounted)")
    axes.set_ylabel("realised")


def _draw_states(axes: Axes, trace: Trace, dimension: int) -> None:
    horizon = trace.kept_states.shape[2]
    for step, states, best in zip(
        trace.kept_steps, trace.kept_states, trace.kept_best, strict=True
    ):
        times = step + 1 + np.arange(horizon)
        for candidate in states[:MAX_CANDIDATES]:
            axes.plot(times, candidate[:, dimension], color="tab:orange", alpha=0.15, linewidth=0.6)
        axes.plot(times, states[best, :, dimension], color="tab:red", linewidth=1.2)
    axes.plot(trace.states[:, dimension], color="black", linewidth=0.9)
    # Candidates may leave for infinity; what happened sets the frame.
    values = trace.states[:, dimension]
    margin = 0.3 * max(float(np.ptp(values)), 1e-3)
    axes.set_ylim(float(values.min()) - margin, float(values.max()) + margin)
    axes.set_ylabel(f"state {dimension}")
    if dimension == 0:
        axes.set_title("black: what happened; orange: candidates; red: chosen")
