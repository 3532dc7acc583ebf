"""Dynamics of F steps at once against single-step ones: how errors grow, and what control they give.

All have about the parameters of the shipped dynamics network, and all but the shipped file itself are
trained here: at learning rates of one grid, with at least as many optimiser steps as the model of F
steps at once, and for at least as much processor time. Open loop: held-out action sequences of the
data, each model's own predictions fed back, against the states that MuJoCo recorded.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.backends import registry
from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.evaluation.experiments.episode_scores import score_summary, shown
from dmpc_fast.evaluation.rival_planners.episodes import drive_episodes
from dmpc_fast.evaluation.rival_planners.searches import SampleScoreRank
from dmpc_fast.evaluation.rival_planners.world import World
from dmpc_fast.model_file import Model, load_model
from dmpc_fast.rivals.dynamics_training import KINDS, RATES, Trainings
from dmpc_fast.rivals.lone_stage import stage_parameters
from dmpc_fast.rivals.open_loop import open_loop
from dmpc_fast.rivals.step_models import Rollout, chained

MODEL, TASK = "walker2d", "Walker2d-v5"
SHIPPED = "shipped"
STEPS, TIMED_PLANS = 256, 9
SHOWN_STEPS = (1, 8, 32, 64, 128, 256)


def run(common: Common) -> dict[str, dict[str, Any]]:
    """Train what is not there, and measure each."""
    model = load_model(common.model(MODEL))
    settings = {
        **common.described(),
        "model_sha256": model.sha256,
        "num_samples": common.num_samples or 64,
        "datasets": model.spec.provenance["datasets"],
    }
    trainings = Trainings(common, model)
    base = common.train_steps or trainings.own_steps
    trained = {**settings, "train_steps": base, "rates": list(RATES)}
    folder = common.out / "dynamics"
    budget = Arm("budget", trained, functools.partial(trainings.budget, base))
    found = run_arms(folder, [budget], progress=False)
    arms = [Arm(SHIPPED, settings, functools.partial(_shipped, common, model, trainings))]
    for kind in KINDS:
        steps = found["budget"]["steps"][kind]
        measure = functools.partial(_rival, common, model, trainings, kind, base, steps)
        arms.append(Arm(kind, {**trained, "dynamics": kind, "own_steps": steps}, measure))
    return found | run_arms(folder, arms, progress=common.progress, only=common.arms)


def _shipped(common: Common, model: Model, trainings: Trainings) -> dict[str, Any]:
    engine = registry.create(common.backend, model, dtype=common.dtype, **common.options())
    rollout = chained(engine, model, seed=common.seed)
    parameters = stage_parameters(model, "dynamics")
    return {"parameters": parameters, **_measured(common, model, trainings, rollout)}


def _rival(
    common: Common, model: Model, trainings: Trainings, kind: str, base: int, steps: int
) -> dict[str, Any]:
    tuning = trainings.tuning_errors(kind, base)
    rate = min(tuning, key=lambda rate: tuning[rate])
    made = trainings.made(kind, steps, rate)
    return {
        "parameters": made.parameters,
        "train_steps": steps,
        "training_seconds": made.seconds,
        "learning_rate": rate,
        "tuning_errors": {f"{rate:g}": error for rate, error in tuning.items()},
        **_measured(common, model, trainings, made.rollout),
    }


def _measured(
    common: Common, model: Model, trainings: Trainings, rollout: Rollout
) -> dict[str, Any]:
    """Errors by step, the steps at which they are half saturated, the time of a plan, and scores.

    Errors count as saturated where they are those of unrelated states, or where a model's own are
    largest: a model that diverges passes the first level long before the second.
    """
    errors, unrelated, counts = open_loop(
        rollout, trainings.test_windows(STEPS), model.normalizer.state.scale, common.seed
    )
    return {
        "errors": errors.tolist(),
        "starts": counts.tolist(),
        "saturated": unrelated,
        "half_saturated_step": _passes(errors, unrelated / 2),
        "half_of_largest_step": _passes(errors, errors.max() / 2),
        "predict_ms": 1e3 * _plan_seconds(rollout, model, common.num_samples or 64),
        **_control(common, model, rollout),
    }


def _passes(errors: np.ndarray, level: float) -> int | None:
    """The first step, from 1, whose error reaches `level`; None where none does."""
    steps = np.flatnonzero(errors >= level)
    return int(steps[0]) + 1 if steps.size else None


def _plan_seconds(rollout: Rollout, model: Model, samples: int) -> float:
    """Processor seconds in which one plan's states are predicted."""
    spec = model.spec
    states = np.repeat(model.normalizer.state.mean[None], samples, axis=0)
    actions = np.zeros((samples, spec.horizon, spec.action_size), np.float32)
    times = []
    for _ in range(TIMED_PLANS):
        begin = time.process_time()
        rollout(states, actions)
        times.append(time.process_time() - begin)
    return float(np.median(times))


def _control(common: Common, model: Model, rollout: Rollout) -> dict[str, Any]:
    """Scores of the shipped planner with these dynamics in place of its own."""
    environment = make_environment(TASK)
    engine = registry.create(common.backend, model, dtype=common.dtype, **common.options())

    def predict(state: np.ndarray, actions: np.ndarray) -> np.ndarray:
        return rollout(np.repeat(state[None], len(actions), axis=0), actions)

    try:
        driven = drive_episodes(
            environment,
            World(model.spec, engine, seed=common.seed, dynamics=predict),
            SampleScoreRank(
                common.num_samples or 64,
                common.num_elites or model.spec.recommended.get("num_elites", 1),
            ),
            episodes=common.episodes,
            seed=common.seed,
            action_chunk=model.spec.recommended.get("action_chunk", 1),
            max_steps=common.max_steps,
        )
    finally:
        environment.close()
    return score_summary(TASK, driven.returns, driven.lengths)


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as a Markdown table."""
    heads = " | ".join(f"error at {step}" for step in SHOWN_STEPS)
    lines = [
        f"| dynamics | parameters | {heads} | half of saturated at | half of its largest at "
        "| steps | rate | training | states of a plan | score |",
        "|---" * (9 + len(SHOWN_STEPS)) + "|",
    ]
    for arm, row in _rows(results).items():
        errors = " | ".join(f"{row['errors'][step - 1]:.2f}" for step in SHOWN_STEPS)
        halves = (row["half_saturated_step"], row["half_of_largest_step"])
        passed = " | ".join("-" if half is None else str(half) for half in halves)
        seconds = row.get("training_seconds")
        lines.append(
            f"| {arm} | {row['parameters']} | {errors} | {passed} "
            f"| {row.get('train_steps', '-')} | {row.get('learning_rate', '-')} "
            f"| {'-' if seconds is None else f'{seconds:.0f} s'} "
            f"| {row['predict_ms']:.1f} ms | {shown(row['score'])} |"
        )
    return lines


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Median error over the step of prediction."""
    from matplotlib.figure import Figure

    from dmpc_fast.evaluation.figure_file import save_figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    rows = _rows(results)
    for arm, row in rows.items():
        axes.plot(range(1, len(row["errors"]) + 1), row["errors"], label=arm)
    axes.axhline(
        rows[SHIPPED]["saturated"], color="black", linestyle="--", label="unrelated states"
    )
    axes.set(xlabel="step", ylabel="median error (standard deviations)", xscale="log", yscale="log")
    axes.legend()
    save_figure(figure, path, dpi=120)


def _rows(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {arm: row for arm, row in results.items() if arm != "budget"}
