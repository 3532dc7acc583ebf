"""How bad a change may be before the proposals themselves are of no use.

For each severity: the unadapted planner, and the best that any dynamics model could do with the same
proposals and objective: MuJoCo itself, changed alike, in its place (the oracle's best of N). Among
the changes is a natural one: the right foot's friction in Gymnasium's Walker2d up to v4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dmpc_fast.evaluation.experiments import defect
from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.evaluation.experiments.defect import MODEL, TASK
from dmpc_fast.evaluation.experiments.episode_scores import (
    planner_scores,
    score_summary,
    shown,
)
from dmpc_fast.model_file import load_model

#: Largest torque of the right ankle as commanded; 1 is the healthy robot's.
LIMITS = (0.9, 0.75, 0.6, 0.5, 0.25)
CHANGES: dict[str, tuple[str, ...]] = {
    "healthy": (),
    **{f"ankle-{x:g}": (f"actuator[foot_joint].ctrlrange={-x:g},{x:g}",) for x in LIMITS},
    "v4-friction": ("geom[foot_geom].friction=0.9",),
}


def run(common: Common) -> dict[str, dict[str, Any]]:
    """Unadapted planners first; the oracle takes longer."""
    settings = {**common.described(), "model_sha256": load_model(common.model(MODEL)).sha256}
    chosen = dict(list(CHANGES.items())[-2:]) if common.quick else CHANGES
    arms = []
    for kind, measure in (("planner", _planner), ("oracle", _oracle)):
        for name, changes in chosen.items():
            arms.append(
                Arm(
                    f"{name}-{kind}",
                    {**settings, "modify": list(changes), "kind": kind},
                    measure(common, changes),
                )
            )
    return run_arms(common.out / "severity", arms, progress=common.progress, only=common.arms)


def _planner(common: Common, changes: Sequence[str]) -> Callable[[], dict[str, Any]]:
    return lambda: planner_scores(common, common.model(MODEL), TASK, modify=changes)


def _oracle(common: Common, changes: Sequence[str]) -> Callable[[], dict[str, Any]]:
    return lambda: score_summary(TASK, *defect.ceiling_returns(common, changes))


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as a Markdown table."""
    lines = [
        "| robot | unadapted planner | steps up | oracle's best of N | steps up |",
        "|---|---|---|---|---|",
    ]
    for name in _names(results):
        cells = []
        for kind in ("planner", "oracle"):
            row = results[f"{name}-{kind}"]
            cells += [shown(row["score"]), f"{row['length']:.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Scores of planner and oracle for each change."""
    from matplotlib.figure import Figure

    from dmpc_fast.evaluation.figure_file import save_figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    names = _names(results)
    ankles = [name for name in names if name == "healthy" or name.startswith("ankle")]
    for kind, colour in (("planner", "tab:blue"), ("oracle", "tab:orange")):
        rows = [results[f"{name}-{kind}"]["score"] for name in names]
        means, errors = [row[0] for row in rows], [row[1] for row in rows]
        axes.errorbar(range(len(names)), means, errors, fmt="o", color=colour, label=kind)
        # A line joins what differs in the ankle's torque alone.
        places = [names.index(name) for name in ankles]
        axes.plot(places, [means[place] for place in places], color=colour)
    axes.set_xticks(range(len(names)), names, rotation=25, ha="right")
    axes.set(ylabel="score")
    axes.legend()
    save_figure(figure, path, dpi=120)


def _names(results: dict[str, dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(arm.rpartition("-")[0] for arm in results))
