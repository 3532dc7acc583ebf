"""A defect and a reward, both new, at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dmpc_fast.evaluation.experiments import defect, novel_reward
from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.evaluation.experiments.defect import DEFECT, MODEL, TASK, play_episodes
from dmpc_fast.model_file import load_model
from dmpc_fast.objectives import to_json

TARGET = next(t for t in novel_reward.TARGETS if t.name == "walker2d-balance")
ARMS = ("healthy", "before", "after")


def run(common: Common) -> dict[str, dict[str, Any]]:
    """The height reward on the healthy robot, and with the defect before and after adapting."""
    samples = common.num_samples or 64
    settings = {
        **common.described(),
        "model_sha256": load_model(common.model(MODEL)).sha256,
        "objective": to_json(TARGET.terms),
        "num_samples": samples,
    }

    def reached(model: Path, modify: Sequence[str]) -> dict[str, Any]:
        return novel_reward.measure(common, model, TASK, TARGET.terms, samples, modify=modify)

    def adapted() -> dict[str, Any]:
        return reached(defect.adapted_model(common, play_episodes(common)[-1]).path, (DEFECT,))

    damaged = {**settings, "modify": DEFECT}
    tuned = {**damaged, "play": play_episodes(common)[-1], "steps": common.finetune_steps}
    arms = [
        Arm("healthy", settings, lambda: reached(common.model(MODEL), ())),
        Arm("before", damaged, lambda: reached(common.model(MODEL), (DEFECT,))),
        Arm("after", tuned, adapted),
    ]
    return run_arms(common.out / "both", arms, progress=common.progress, only=common.arms)


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as a Markdown table."""
    lines = [
        "| robot | distance | reward's return | of the healthy robot's | steps up |",
        "|---|---|---|---|---|",
    ]
    healthy = _return(results, "healthy")[0]
    for arm in ARMS:
        row, paid = results[arm]["targets"][TARGET.name], _return(results, arm)
        share = "-" if healthy <= 0 else f"{100 * paid[0] / healthy:.0f} %"
        lines.append(
            f"| {arm} | {row['distance'][0]:.3f} | {paid[0]:.0f} | {share} "
            f"| {results[arm]['length'][0]:.0f} |"
        )
    return lines


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """The reward's return on each robot."""
    from matplotlib.figure import Figure

    from dmpc_fast.evaluation.figure_file import save_figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    rows = [_return(results, arm) for arm in ARMS]
    axes.bar(ARMS, [row[0] for row in rows], yerr=[row[1] or 0.0 for row in rows])
    axes.set(ylabel="return of the height reward")
    save_figure(figure, path, dpi=120)


def _return(results: dict[str, dict[str, Any]], arm: str) -> Any:
    return results[arm]["targets"][TARGET.name]["reward_return"]
