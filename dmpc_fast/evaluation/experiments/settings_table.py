"""What the planner's settings are worth: one table on Walker2d, one setting changed at a time.

Another horizon is another training: models that differ from each other in nothing else are trained,
with as many optimiser steps, which are usually fewer than the shipped model had.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.evaluation.experiments.episode_scores import planner_scores, shown
from dmpc_fast.evaluation.experiments.trained import like, trained
from dmpc_fast.model_file import Model, load_model, save_model
from dmpc_fast.planning.renoising import can_renoise
from dmpc_fast.planning.warm_start import WarmStart

MODEL, TASK = "walker2d", "Walker2d-v5"
#: Values of each setting beside the usual one, which is the arm "usual".
SAMPLES, CHUNKS, ELITES = (1, 4, 16, 256), (1, 2, 8), (1, 2, 8)
DISCOUNTS, PENALTIES = (0.9, 0.95, 0.999), (0.0, 30.0, 300.0)
#: Settings that are a file's, not a planner's.
OF_OBJECTIVE = ("discount", "termination_penalty")
WARM_STARTS = (WarmStart(0.8, 0.5), WarmStart(0.4, 0.5))
#: Horizons F, each a training of `TRAIN_STEPS` for every stage unless the command says otherwise.
HORIZONS, TRAIN_STEPS = (8, 16, 32, 64), 3000


def run(common: Common) -> dict[str, dict[str, Any]]:
    """The usual settings, then each change of one of them; horizons, which are trained, last."""
    path = common.model(MODEL)
    model = load_model(path)
    base = {
        **common.described(),
        "model_sha256": model.sha256,
        "num_samples": common.num_samples or model.spec.recommended.get("num_samples", 64),
        "num_elites": common.num_elites or model.spec.recommended.get("num_elites", 1),
        "action_chunk": model.spec.recommended.get("action_chunk", 1),
    }
    arms = []
    changes = _changes(common.quick)
    if not can_renoise(model.spec):
        # To such a student a plan that was re-noised means nothing.
        changes = {name: change for name, change in changes.items() if "warm_start" not in change}
    for name, change in changes.items():
        settings = {**base, "change": {key: repr(value) for key, value in change.items()}}
        arms.append(Arm(name, settings, _measured(common, path, {**_options(base), **change})))
    steps = common.train_steps or TRAIN_STEPS
    for horizon in HORIZONS[: 1 if common.quick else None]:
        settings = {**base, "change": {"horizon": str(horizon)}, "train_steps": steps}
        arms.append(Arm(f"horizon-{horizon}", settings, _horizon(common, model, horizon, steps)))
    return run_arms(common.out / "settings", arms, progress=common.progress, only=common.arms)


def _options(base: dict[str, Any]) -> dict[str, Any]:
    return {name: base[name] for name in ("num_samples", "num_elites", "action_chunk")}


def _changes(quick: bool) -> dict[str, dict[str, Any]]:
    """What differs from the usual settings in each arm."""
    changes: dict[str, dict[str, Any]] = {"usual": {}}
    rows: list[tuple[str, str, tuple[Any, ...]]] = [
        ("candidates", "num_samples", SAMPLES),
        ("chunk", "action_chunk", CHUNKS),
        ("elites", "num_elites", ELITES),
        ("discount", "discount", DISCOUNTS),
        ("penalty", "termination_penalty", PENALTIES),
    ]
    for label, key, values in rows:
        changes |= {f"{label}-{value:g}": {key: value} for value in values[: 1 if quick else None]}
    for warm in WARM_STARTS[: 1 if quick else None]:
        changes[f"warm-start-{warm.angle:g}"] = {"warm_start": warm}
    return changes


def _measured(common: Common, path: Path, options: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    def measure() -> dict[str, Any]:
        own = {key: value for key, value in options.items() if key in OF_OBJECTIVE}
        warm = {"warm_start": options["warm_start"]} if "warm_start" in options else {}
        return planner_scores(
            common,
            _with_objective(path, own, common.out / "models"),
            TASK,
            num_samples=options["num_samples"],
            num_elites=options["num_elites"],
            action_chunk=options["action_chunk"],
            planner_options={**common.options(), **warm},
        )

    return measure


def _horizon(
    common: Common, model: Model, horizon: int, steps: int
) -> Callable[[], dict[str, Any]]:
    def measure() -> dict[str, Any]:
        made = trained(
            common,
            "train",
            model.spec.provenance["datasets"],
            **like(model, horizon=horizon),
            steps=steps,
        )
        return {**planner_scores(common, made.path, TASK), "training_seconds": made.seconds}

    return measure


def _with_objective(path: Path, changed: dict[str, Any], folder: Path) -> Path:
    """The same weights ranked with another discount or termination penalty."""
    if not changed:
        return path
    model = load_model(path)
    label = "-".join(f"{key}-{value:g}" for key, value in changed.items())
    made = folder / f"{path.stem}-{model.sha256[:8]}-{label}.safetensors"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True)
        save_model(made, dataclasses.replace(model.spec, **changed), model.tensors)
    return made


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as a Markdown table."""
    usual = results["usual"]["settings"]
    lines = [
        f"Usual: {usual['num_samples']} candidates, chunk {usual['action_chunk']}, mean of "
        f"{usual['num_elites']}.",
        "",
        "| settings | score | steps up |",
        "|---|---|---|",
    ]
    return lines + [
        f"| {arm} | {shown(row['score'])} | {row['length']:.0f} |" for arm, row in results.items()
    ]


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Score of every arm beside the usual one's."""
    from matplotlib.figure import Figure

    from dmpc_fast.evaluation.figure_file import save_figure

    figure = Figure(figsize=(6, 0.3 * len(results) + 1), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(results))
    scores = [row["score"] for row in results.values()]
    axes.barh(places, [s[0] for s in scores], xerr=[s[1] for s in scores])
    axes.axvline(scores[0][0], color="black", linestyle="--")
    axes.set_yticks(places, list(results))
    axes.invert_yaxis()
    axes.set(xlabel="score")
    save_figure(figure, path, dpi=120)
