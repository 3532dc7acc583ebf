"""Dynamics of F steps at once against single-step ones: how errors grow, and what control they give.

All have about the parameters of the shipped dynamics network. Open loop: held-out action sequences
of the data, each model's own predictions fed back, against the states that MuJoCo recorded.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.backends import registry
from dmpc_fast.data.minari import load_episodes
from dmpc_fast.data.windows import Windows, split_episodes
from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.evaluation.rival_planners.episodes import drive_episodes
from dmpc_fast.evaluation.rival_planners.searches import SampleScoreRank
from dmpc_fast.evaluation.rival_planners.world import World
from dmpc_fast.evaluation.scores import normalized_score, score_range
from dmpc_fast.model_file import Model, load_model
from dmpc_fast.rivals.step_models import (
    Rollout,
    chained,
    perceptrons,
    train_perceptrons,
    train_single_step,
)
from dmpc_fast.statistics import mean_and_error

MODEL, TASK = "walker2d", "Walker2d-v5"
ARMS = ("diffusion-multi-step", "diffusion-single-step", "mlp", "ensemble")
MEMBERS = 5
STEPS, STARTS, TIMED_PLANS = 256, 400, 9
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
    arms = []
    for name in ARMS:
        trained = {} if name == ARMS[0] else {"train_steps": common.train_steps}
        measure = functools.partial(_measure, common, model, name)
        arms.append(Arm(name, {**settings, "dynamics": name, **trained}, measure))
    return run_arms(common.out / "dynamics", arms, progress=common.progress)


def _measure(common: Common, model: Model, name: str) -> dict[str, Any]:
    store = load_episodes(model.spec.provenance["datasets"], progress=common.progress)
    training = model.spec.provenance["training"]
    parts = split_episodes(store, training["validation_fraction"], training["seed"])
    make = functools.partial(Windows, store, discount=0.99, termination_penalty=0.0)
    train, held_out = (make(horizon=1, episodes=part) for part in parts)
    begin = time.perf_counter()
    rollout, parameters = _made(common, model, name, train, held_out)
    seconds = time.perf_counter() - begin
    errors, unrelated, counts = open_loop(
        rollout, make(horizon=STEPS, episodes=parts[1]), model.normalizer.state.scale, common.seed
    )
    half = np.flatnonzero(errors >= unrelated / 2)
    return {
        "parameters": parameters,
        "training_seconds": None if name == ARMS[0] else seconds,
        "errors": errors.tolist(),
        "starts": counts.tolist(),
        "saturated": unrelated,
        "half_saturated_step": int(half[0]) + 1 if half.size else None,
        "predict_ms": 1e3 * _plan_seconds(rollout, model, common.num_samples or 64),
        **_control(common, model, rollout),
    }


def _made(
    common: Common, model: Model, name: str, train: Windows, held_out: Windows
) -> tuple[Rollout, int]:
    """The named model's rollout and number of parameters."""
    budget = _parameters(model)
    label = f"{MODEL}-{model.sha256[:8]}-{name}-{common.train_steps}-{common.seed}"
    if name in ("mlp", "ensemble"):
        networks = train_perceptrons(
            train,
            model.normalizer,
            common.out / "models" / f"{label}.safetensors",
            members=1 if name == "mlp" else MEMBERS,
            parameters=budget,
            steps=common.train_steps,
            seed=common.seed,
        )
        size = sum(p.numel() for network in networks for p in network.parameters())
        return perceptrons(networks, model.normalizer), size
    if name == "diffusion-single-step":
        path = train_single_step(
            train,
            held_out,
            model.normalizer,
            model.spec,
            common.out / "models" / label,
            steps=common.train_steps,
            seed=common.seed,
            threads=common.threads,
            progress=common.progress,
        )
        model = load_model(path)
    engine = registry.create(common.backend, model, dtype=common.dtype, **common.options())
    return chained(engine, model, seed=common.seed), _parameters(model)


def _parameters(model: Model) -> int:
    return sum(t.size for n, t in model.tensors.items() if n.startswith("dynamics."))


def open_loop(
    rollout: Rollout, windows: Windows, scale: np.ndarray, seed: int
) -> tuple[np.ndarray, float, np.ndarray]:
    """Median error by step (K,), that of unrelated states, and how many starts reach each step (K,).

    Errors are root mean squares over dimensions, in standard deviations `scale` (S,). Starts are
    drawn where at least half of the steps follow, so the last medians are over fewer; a step that
    none reaches has the error of the last that one did.
    """
    rng = np.random.default_rng([seed, 3])
    steps = windows.horizon
    lengths = np.diff(windows.store.offsets)[windows.episodes]
    left = np.repeat(lengths, lengths) - windows.ages
    most = min(steps // 2, int(left.max()))
    long = np.flatnonzero(left >= most)
    chosen = rng.choice(long, min(STARTS, len(long)), replace=False)
    batch = windows.batch(chosen)
    predicted = rollout(batch.states[:, -1], batch.actions)
    squares = np.square((predicted - batch.next_states) / scale).mean(-1)
    errors = np.where(batch.valid, np.sqrt(squares), np.nan)
    counts = batch.valid.sum(0)
    known = [column[~np.isnan(column)] for column in errors.T]
    medians = np.array([np.median(column) if column.size else np.nan for column in known])
    reached = int(np.flatnonzero(counts)[-1])
    medians[reached + 1 :] = medians[reached]
    states = batch.next_states[batch.valid]
    others = states[rng.permutation(len(states))]
    apart = np.sqrt(np.square((states - others) / scale).mean(-1))
    return medians, float(np.median(apart)), counts


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
    references = score_range(TASK)
    assert references is not None
    scores = normalized_score(np.array(driven.returns), references)
    mean = mean_and_error(scores)
    return {
        "score": [float(mean.mean), float(mean.standard_error)],
        "scores": scores.tolist(),
        "length": float(np.mean(driven.lengths)),
    }


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as a Markdown table."""
    heads = " | ".join(f"error at {step}" for step in SHOWN_STEPS)
    lines = [
        f"| dynamics | parameters | {heads} | half of saturated at | training | states of a plan "
        "| score |",
        "|---" * (6 + len(SHOWN_STEPS)) + "|",
    ]
    for arm, row in results.items():
        errors = " | ".join(f"{row['errors'][step - 1]:.2f}" for step in SHOWN_STEPS)
        half, seconds = row["half_saturated_step"], row["training_seconds"]
        lines.append(
            f"| {arm} | {row['parameters']} | {errors} "
            f"| {'-' if half is None else half} "
            f"| {'shipped' if seconds is None else f'{seconds:.0f} s'} "
            f"| {row['predict_ms']:.1f} ms | {row['score'][0]:.1f} ± {row['score'][1]:.1f} |"
        )
    return lines


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Median error over the step of prediction."""
    from matplotlib.figure import Figure

    from dmpc_fast.evaluation.figure_file import save_figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for arm, row in results.items():
        axes.plot(range(1, len(row["errors"]) + 1), row["errors"], label=arm)
    saturated = next(iter(results.values()))["saturated"]
    axes.axhline(saturated, color="black", linestyle="--", label="unrelated states")
    axes.set(xlabel="step", ylabel="median error (standard deviations)", xscale="log", yscale="log")
    axes.legend()
    save_figure(figure, path, dpi=120)
