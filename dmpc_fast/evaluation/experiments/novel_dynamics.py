"""A defect that no model was trained for, and how far adapting the dynamics alone repairs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dmpc_fast.evaluation.experiments import defect
from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.evaluation.experiments.defect import DEFECT, MODEL, TASK, play_episodes
from dmpc_fast.evaluation.experiments.episode_scores import (
    planner_scores,
    score_summary,
    shown,
)
from dmpc_fast.model_file import load_model


def run(common: Common) -> dict[str, dict[str, Any]]:
    """Healthy and before, then after 1 to 100 episodes of play, what is kept of the old robot, the
    ceiling, exact physics of the healthy robot (unaware), and the unadapted dynamics told of the
    defect."""
    settings = {**common.described(), "model_sha256": load_model(common.model(MODEL)).sha256}
    damaged = {**settings, "modify": DEFECT}
    arms = [
        Arm("healthy", settings, _scores(common, ())),
        Arm("before", damaged, _scores(common, (DEFECT,))),
    ]
    ceiling = Arm(
        "ceiling",
        damaged,
        lambda: score_summary(TASK, *defect.ceiling_returns(common, (DEFECT,))),
    )
    unaware = Arm(
        "unaware",
        damaged,
        lambda: score_summary(TASK, *defect.ceiling_returns(common, (DEFECT,), believed=())),
    )
    told = Arm(
        "told",
        damaged,
        lambda: score_summary(TASK, *defect.told_returns(common)),
    )
    # Most play first: it is what the target is about, and the ceiling with it.
    for count in reversed(play_episodes(common)):
        tuned = {**damaged, "play": count, "steps": common.finetune_steps}
        arms.append(Arm(f"after-{count}", tuned, _adapted(common, count, (DEFECT,))))
        if len(arms) == 3:
            arms += [ceiling, unaware, told]
    kept = {**settings, "play": play_episodes(common)[-1], "steps": common.finetune_steps}
    arms.append(Arm("healthy-after", kept, _adapted(common, play_episodes(common)[-1], ())))
    return run_arms(common.out / "novel-dynamics", arms, progress=common.progress, only=common.arms)


def _scores(common: Common, modify: Sequence[str]) -> Callable[[], dict[str, Any]]:
    return lambda: planner_scores(common, common.model(MODEL), TASK, modify=modify)


def _adapted(common: Common, count: int, modify: Sequence[str]) -> Callable[[], dict[str, Any]]:
    def measure() -> dict[str, Any]:
        model = defect.adapted_model(common, count)
        scores = planner_scores(common, model.path, TASK, modify=modify)
        return {**scores, "finetune_seconds": model.seconds}

    return measure


def closed(results: dict[str, dict[str, Any]], arm: str) -> float | None:
    """Share of the gap between the unadapted planner and the ceiling that `arm` closes; None where
    there is no gap."""
    low, high = results["before"]["score"][0], results["ceiling"]["score"][0]
    return None if high <= low else (results[arm]["score"][0] - low) / (high - low)


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as a Markdown table."""
    lines = [
        "| arm | score | steps up | gap closed | fine-tuning |",
        "|---|---|---|---|---|",
    ]
    for arm, row in results.items():
        share = closed(results, arm) if arm.startswith("after") else None
        seconds = row.get("finetune_seconds")
        lines.append(
            f"| {arm} | {shown(row['score'])} | {row['length']:.0f} "
            f"| {'-' if share is None else f'{100 * share:.0f} %'} "
            f"| {'-' if seconds is None else f'{seconds:.0f} s'} |"
        )
    return lines


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Score over the amount of play data, between the unadapted planner and the ceiling."""
    from matplotlib.figure import Figure

    from dmpc_fast.evaluation.figure_file import save_figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    counts = [int(arm.removeprefix("after-")) for arm in results if arm.startswith("after-")]
    rows = [results[f"after-{count}"]["score"] for count in counts]
    axes.errorbar(counts, [r[0] for r in rows], [r[1] for r in rows], marker="o", label="after")
    for name, colour in (("healthy", "tab:green"), ("before", "tab:red"), ("ceiling", "black")):
        axes.axhline(results[name]["score"][0], color=colour, linestyle="--", label=name)
    axes.set(xlabel="episodes of play data", ylabel="score", xscale="log")
    axes.legend()
    save_figure(figure, path, dpi=120)
