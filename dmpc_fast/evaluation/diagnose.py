"""What limits a model's score: dynamics, objective, proposals or time (`dmpc-fast diagnose`)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dmpc_fast.assets import name_of
from dmpc_fast.backends import registry
from dmpc_fast.evaluation.calibration import gain_curves, rank_correlations, sample_counts
from dmpc_fast.evaluation.continuation import Continuation
from dmpc_fast.evaluation.diagnosis_table import table_lines
from dmpc_fast.evaluation.diversity import action_spread, nearby_action_std
from dmpc_fast.evaluation.dynamics_error import dynamics_errors
from dmpc_fast.evaluation.environments import check_environment, make_environment
from dmpc_fast.evaluation.evaluate import software_versions
from dmpc_fast.evaluation.probe import Probe, probe
from dmpc_fast.evaluation.starts import Drives, drive_for_starts
from dmpc_fast.evaluation.truth import TrueFutures
from dmpc_fast.evaluation.verdict import verdict
from dmpc_fast.model_file import Model, load_model
from dmpc_fast.planning.planner import Planner
from dmpc_fast.statistics import mean_and_error, rank_correlation

#: Seeds of the random streams of the two continuations, told from the planner's by their size.
CONTINUATION_SEEDS = (1 << 40, (1 << 40) + 1)

#: Executed plans that a report lists one by one, taken evenly.
MAX_POINTS = 1000


@dataclass(frozen=True)
class Diagnosis:
    """The findings as plain numbers: what `to_json` writes and `plot_diagnosis` draws."""

    report: dict[str, Any]

    def to_json(self) -> str:
        return json.dumps(_plain(self.report), indent=1, allow_nan=False)

    def lines(self) -> list[str]:
        """A short table for a person to read."""
        return list(table_lines(self.report))


def diagnose(
    model: Path,
    env_id: str,
    *,
    episodes: int = 4,
    starts: int = 24,
    candidates: int = 256,
    continuation: int = 64,
    num_samples: int | None = None,
    action_chunk: int | None = None,
    seed: int = 0,
    backend: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
    dataset: str | None = None,
    modify: Sequence[str] = (),
    max_steps: int | None = None,
    allow_period_mismatch: bool = False,
    progress: bool = True,
) -> Diagnosis:
    """Drive `episodes` episodes, and hold the candidates of `starts` of their plans against MuJoCo.

    The episodes are those of `evaluate` with this seed. candidates: how many are drawn at each start,
    at least the planner's N. continuation: steps that follow each candidate's own. threads: of the
    backend and of the physics. dataset: id of a Minari dataset, to compare the proposals' spread with
    that of its actions near the starts. Other options are those of `evaluate`. Raises ValueError
    where model and environment do not fit and for tasks without a reader (`task_readers`).
    """
    loaded = load_model(model)
    engine = registry.create(
        backend, loaded, dtype=dtype, **({} if threads is None else {"threads": threads})
    )
    planner = Planner(
        loaded, engine, dtype=dtype, seed=seed, num_robots=1, num_samples=num_samples,
        action_chunk=action_chunk,
    )  # fmt: skip
    if candidates < planner.num_samples or continuation < 1:
        raise ValueError(
            f"candidates must be at least num_samples ({planner.num_samples}) and continuation at "
            f"least 1, got {candidates} and {continuation}"
        )
    environment = make_environment(env_id, modify=modify)
    try:
        check_environment(environment, loaded.spec, allow_period_mismatch=allow_period_mismatch)
        truth = TrueFutures(environment, threads=threads or 1)
        silent = None if progress else True
        with tqdm(total=episodes, unit="ep", desc="driving", disable=silent) as bar:
            drives = drive_for_starts(
                planner, environment, truth, episodes=episodes, starts=starts, seed=seed,
                max_steps=max_steps, on_episode=lambda _: bar.update(),
            )  # fmt: skip
        one, two = (
            Continuation(continuation, planner.action_chunk, number)
            for number in CONTINUATION_SEEDS
        )
        probes = [
            probe(
                engine, loaded.spec, truth, start, candidates=candidates, continuations=(one, two)
            )
            for start in tqdm(drives.starts, unit="start", desc="probing", disable=silent)
        ]
    finally:
        environment.close()
    settings = {
        "model": name_of(model),
        "model_sha256": loaded.sha256,
        "environment": env_id,
        "episodes": episodes,
        "starts": [(start.episode, start.step) for start in drives.starts],
        "candidates": candidates,
        "num_samples": planner.num_samples,
        "action_chunk": planner.action_chunk,
        "horizon": loaded.spec.horizon,
        "discount": loaded.spec.discount,
        "continuation": continuation,
        "seed": seed,
        "backend": engine.name,
        "dtype": dtype,
        "threads": threads,
        "dataset": dataset,
        "modify": list(modify),
        "max_steps": max_steps,
    }
    return Diagnosis(_report(loaded, drives, probes, settings))


def _report(
    model: Model, drives: Drives, probes: Sequence[Probe], settings: dict[str, Any]
) -> dict[str, Any]:
    samples: int = settings["num_samples"]
    latency = _latency(drives, model.spec.environment.control_period_s)
    scale = np.asarray(model.normalizer.state.scale, np.float64)
    counts = sample_counts(settings["candidates"])
    curves = gain_curves(probes, counts)
    timing = {"period_s": latency["period_ms"] / 1e3, "plan_p99_s": latency["p99_ms"] / 1e3}
    groups = {
        "all": list(probes),
        "at_rest": [p for p in probes if p.at_rest],
        "running": [p for p in probes if not p.at_rest],
    }
    return {
        "verdict": {
            name: verdict(group, samples=samples, scale=scale, **timing)
            for name, group in groups.items()
            if group
        },
        "dynamics": dynamics_errors(probes, scale, samples),
        "calibration": _calibration(drives, probes),
        "choice": {
            "counts": counts,
            **{
                name: [mean_and_error(column)._asdict() for column in curve.T]
                for name, curve in curves.items()
            },
        },
        "diversity": action_spread(
            probes,
            model.spec.environment,
            np.asarray(model.normalizer.action.scale, np.float64),
            _nearby(model, probes, settings["dataset"]),
        ),
        "latency": latency,
        "episodes": {
            "return": drives.returns,
            "length": drives.lengths,
            "terminated": drives.terminated,
        },
        "settings": settings,
        "versions": software_versions(),
    }


def _calibration(drives: Drives, probes: Sequence[Probe]) -> dict[str, Any]:
    """Ranks over candidates, and predicted beside realised returns of the plans that were executed."""
    rows = [rank_correlations(p) for p in probes]
    predicted, realized = np.array(drives.predicted), np.array(drives.realized)
    bias = {
        "reward": [np.mean(p.by_predicted.reward - p.rewards.reward) for p in probes],
        "termination": [
            np.mean(p.by_predicted.termination - p.rewards.termination) for p in probes
        ],
    }
    executed: dict[str, Any] = {"plans": len(predicted)}
    if len(predicted) > 1:
        executed.update(
            rank_correlation=rank_correlation(predicted, realized),
            mean_predicted=float(predicted.mean()),
            mean_realized=float(realized.mean()),
            mean_absolute_error=float(np.abs(predicted - realized).mean()),
            predicted=predicted[:: 1 + len(predicted) // MAX_POINTS].round(3).tolist(),
            realized=realized[:: 1 + len(realized) // MAX_POINTS].round(3).tolist(),
        )
    return {
        "rank_correlation": {name: _ranks([row[name] for row in rows]) for name in rows[0]},
        "bias": {name: mean_and_error(np.array(values))._asdict() for name, values in bias.items()},
        "executed": executed,
    }


def _ranks(values: Sequence[float]) -> dict[str, Any]:
    known = np.array([value for value in values if not math.isnan(value)])
    summary = mean_and_error(known)._asdict() if len(known) else {"mean": None}
    return {**summary, "starts": len(known), "each": [round(value, 4) for value in values]}


def _nearby(model: Model, probes: Sequence[Probe], dataset: str | None) -> np.ndarray | None:
    if dataset is None:
        return None
    from dmpc_fast.data.minari import load_episodes

    store = load_episodes([dataset], progress=False)
    if (store.state_size, store.action_size) != (model.spec.state_size, model.spec.action_size):
        raise ValueError(
            f"dataset {dataset!r} has states and actions of sizes {store.state_size} and "
            f"{store.action_size}, the model {model.spec.state_size} and {model.spec.action_size}"
        )
    present = np.array([p.present for p in probes])
    return nearby_action_std(store, present, np.asarray(model.normalizer.state.scale))


def _latency(drives: Drives, period_s: float) -> dict[str, float]:
    """Of plans made while driving, from observation to action."""
    if not drives.plan_s:
        raise ValueError("the episodes held a single plan: nothing to take a latency from")
    median, p99 = np.quantile(drives.plan_s, [0.5, 0.99])
    return {
        "plans": len(drives.plan_s),
        "median_ms": 1e3 * float(median),
        "p99_ms": 1e3 * float(p99),
        "period_ms": 1e3 * period_s,
        "late": float(np.mean(np.array(drives.plan_s) > period_s)),
    }


def _plain(value: Any) -> Any:
    """Numbers that are none become null, as JSON has it."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
