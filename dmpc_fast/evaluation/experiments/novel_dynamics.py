"""A defect that no model was trained for, and how far adapting the dynamics alone repairs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.evaluation.evaluate import evaluate
from dmpc_fast.evaluation.experiments import defect
from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.evaluation.experiments.defect import DEFECT, MODEL, TASK, play_episodes
from dmpc_fast.evaluation.scores import normalized_score, score_range
from dmpc_fast.model_file import load_model
from dmpc_fast.statistics import mean_and_error


def run(common: Common) -> dict[str, dict[str, Any]]:
    """Healthy and before, then after 2 to 100 episodes of play, what is kept of the old robot, and
    the ceiling."""
    settings = {**common.described(), "model_sha256": load_model(common.model(MODEL)).sha256}
    damaged = {**settings, "modify": DEFECT}
    arms = [
        Arm("healthy", settings, lambda: scores_of(common, common.model(MODEL), ())),
        Arm("before", damaged, lambda: scores_of(common, common.model(MODEL), (DEFECT,))),
    ]
    # Most play first: it is what the target is about.
    for count in reversed(play_episodes(common)):
        tuned = {**damaged, "play": count, "steps": common.finetune_steps}
        arms.append(Arm(f"after-{count}", tuned, _adapted(common, count, (DEFECT,))))
    # The longest comes last.
    ceiling = Arm("ceiling", damaged, lambda: _ceiling(common))
    kept = {**settings, "play": play_episodes(common)[-1], "steps": common.finetune_steps}
    arms.append(Arm("healthy-after", kept, _adapted(common, play_episodes(common)[-1], ())))
    arms.append(ceiling)
    return run_arms(common.out / "novel-dynamics", arms, progress=common.progress)


def _adapted(common: Common, count: int, modify: Sequence[str]) -> Callable[[], dict[str, Any]]:
    def measure() -> dict[str, Any]:
        model, seconds = defect.adapted_model(common, count)
        return {**scores_of(common, model, modify), "finetune_seconds": seconds}

    return measure


def scores_of(common: Common, model: Path, modify: Sequence[str]) -> dict[str, Any]:
    """Scores of a model's planner on the changed robot."""
    found = evaluate(
        model,
        TASK,
        episodes=common.episodes,
        seed=common.seed,
        backend=common.backend,
        dtype=common.dtype,
        num_samples=common.num_samples,
        num_elites=common.num_elites,
        modify=modify,
        batch=common.batch,
        max_steps=common.max_steps,
        planner_options=common.options(),
        progress=common.progress,
    )
    assert found.scores is not None
    return summary(found.scores.tolist(), found.lengths.tolist())


def _ceiling(common: Common) -> dict[str, Any]:
    returns, lengths = defect.ceiling_returns(common, (DEFECT,))
    references = score_range(TASK)
    assert references is not None
    return summary(normalized_score(np.array(returns), references).tolist(), lengths)


def summary(scores: list[float], lengths: list[int]) -> dict[str, Any]:
    """Mean and standard error of scores, the mean length, and both by episode."""
    mean = mean_and_error(np.array(scores))
    return {
        "score": [float(mean.mean), float(mean.standard_error)],
        "length": float(sum(lengths) / len(lengths)),
        "scores": scores,
        "lengths": lengths,
    }


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
            f"| {arm} | {row['score'][0]:.1f} ± {row['score'][1]:.1f} | {row['length']:.0f} "
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
