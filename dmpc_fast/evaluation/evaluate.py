"""How good a model is: many episodes of its planner, their scores, and how sure they are."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dmpc_fast.assets import name_of
from dmpc_fast.evaluation.environments import check_environment, make_environment
from dmpc_fast.evaluation.policies import Objective, PlannerSettings, PlanTimes
from dmpc_fast.evaluation.rollouts import Rollout
from dmpc_fast.evaluation.scores import normalized_score, score_range
from dmpc_fast.evaluation.workers import RolloutTask, rollouts
from dmpc_fast.model_file import load_model
from dmpc_fast.statistics import mean_and_error

#: Seeds from here on are for evaluation; training and tuning never see them.
FIRST_EVALUATION_SEED = 10_000
#: Episodes that one process runs at once unless told: enough to fill a batch of plans.
DEFAULT_BATCH = 8
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class EvaluationResult:
    """Episodes in the order of their numbers, and what they amount to.

    returns (E,): undiscounted. scores (E,): D4RL-normalised, None for tasks without references.
    lengths (E,), terminated (E,), seeds (E,). plan_times: what plans took,
    each for several robots at once. settings: all that was asked for. versions: of the software.
    seconds: that all episodes took, start of workers included; None where nobody looked.
    """

    returns: np.ndarray
    scores: np.ndarray | None
    lengths: np.ndarray
    terminated: np.ndarray
    seeds: np.ndarray
    plan_times: PlanTimes
    settings: dict[str, Any]
    versions: dict[str, str]
    seconds: float | None = None

    def summary(self) -> dict[str, Any]:
        """Means, standard errors and quantiles, in plain numbers."""
        result: dict[str, Any] = {
            "episodes": len(self.returns),
            "return": _distribution(self.returns),
            "length": _distribution(self.lengths),
            "terminated": float(self.terminated.mean()),
            "plan_latency": self._latency(),
        }
        if self.scores is not None:
            result["score"] = _distribution(self.scores)
        if self.seconds is not None:
            result["throughput"] = self._throughput(self.seconds)
        return result

    def to_json(self) -> str:
        """Everything but the single latencies, as one JSON object."""
        episodes = {
            "return": self.returns.tolist(),
            "score": None if self.scores is None else self.scores.tolist(),
            "length": self.lengths.tolist(),
            "terminated": self.terminated.tolist(),
            "seed": self.seeds.tolist(),
        }
        report = {
            "summary": self.summary(),
            "episodes": episodes,
            "settings": self.settings,
            "versions": self.versions,
        }
        return json.dumps(report, indent=2, allow_nan=False)

    def _latency(self) -> dict[str, Any]:
        """Of a whole batch of plans; `dmpc-fast bench` measures a single robot's."""
        count = len(self.plan_times.seconds)
        if not count:
            return {"plans": 0}
        median, p99 = np.quantile(self.plan_times.seconds, [0.5, 0.99])
        return {
            "plans": count,
            "median_ms": 1e3 * float(median),
            "p99_ms": 1e3 * float(p99),
            "mean_robots_per_plan": float(np.mean(self.plan_times.robots)),
        }

    def _throughput(self, seconds: float) -> dict[str, Any]:
        """How fast episodes came, and what share of the workers' time went into plans: what is left
        are physics, the start of workers, and the first plan of each."""
        spent = seconds * self.settings.get("workers", 1)
        return {
            "seconds": seconds,
            "episodes_per_minute": 60 * len(self.returns) / seconds,
            "steps_per_second": float(self.lengths.sum()) / seconds,
            "planning_share": float(np.sum(self.plan_times.seconds)) / spent,
        }


def evaluate(
    model: Path,
    env_id: str,
    *,
    episodes: int = 20,
    seed: int = FIRST_EVALUATION_SEED,
    backend: str = "auto",
    dtype: str = "float32",
    num_samples: int | None = None,
    action_chunk: int | None = None,
    num_elites: int | None = None,
    objective: Objective = None,
    modify: Sequence[str] = (),
    workers: int = 1,
    batch: int | None = None,
    max_steps: int | None = None,
    allow_period_mismatch: bool = False,
    planner_options: dict[str, Any] | None = None,
    progress: bool = True,
) -> EvaluationResult:
    """Run `episodes` episodes of a model's planner and score them.

    Episode i is reset with seed + i and its plans draw from random stream i, whatever `workers`
    (processes) and `batch` (episodes at once in a process) are. num_samples, action_chunk,
    num_elites: the file's recommendation where None. objective: terms in place of the learned
    objective. modify: changes of the robot, see `make_environment`. max_steps: end episodes early.
    planner_options: further options of `Planner.load`. Raises ValueError where model and environment
    do not fit.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    slots = slots_each(batch, workers)
    loaded = load_model(model)
    keys = loaded.spec.environment.observation_keys
    environment = make_environment(env_id, modify=modify)
    try:
        check_environment(environment, loaded.spec, allow_period_mismatch=allow_period_mismatch)
    finally:
        environment.close()
    workers = min(workers, episodes)
    slots = min(slots, math.ceil(episodes / workers))
    planner = PlannerSettings(
        model=Path(model),
        backend=backend,
        dtype=dtype,
        num_samples=num_samples,
        action_chunk=action_chunk,
        num_elites=num_elites,
        objective=objective,
        seed=seed,
        options=dict(planner_options or {}),
    )
    task = RolloutTask(env_id, tuple(modify), planner, keys, seed, slots, max_steps)
    times = PlanTimes()
    found: list[Rollout] = []
    begin = time.perf_counter()
    stream = rollouts(task, workers=workers, limit=episodes, times=times)
    with tqdm(total=episodes, unit="ep", desc=env_id, disable=None if progress else True) as bar:
        for rollout in stream:
            found.append(rollout)
            bar.update()
            bar.set_postfix_str(_running_mean(found, env_id))
    settings = {
        "model": name_of(model),
        "model_sha256": loaded.sha256,
        "datasets": loaded.spec.provenance.get("datasets"),
        "environment": env_id,
        "episodes": episodes,
        "seed": seed,
        "backend": backend,
        "dtype": dtype,
        "num_samples": num_samples,
        "action_chunk": action_chunk,
        "num_elites": num_elites,
        "recommended": loaded.spec.recommended,
        "objective": _describe_objective(objective),
        "modify": list(modify),
        "workers": workers,
        "batch": slots,
        "max_steps": max_steps,
        "planner_options": {name: repr(value) for name, value in planner.options.items()},
    }
    return result_of(found, times, settings, seconds=time.perf_counter() - begin)


def slots_each(batch: int | None, workers: int) -> int:
    """Episodes at once in each of `workers` processes: `batch`, or the default where it is None."""
    slots = DEFAULT_BATCH if batch is None else batch
    if slots < 1 or workers < 1:
        raise ValueError(f"workers and batch must be at least 1, got {workers} and {slots}")
    return slots


def software_versions() -> dict[str, str]:
    """Versions of what decides an episode's course."""
    versions = {"python": platform.python_version()}
    for name in ("dmpc-fast", "numpy", "torch", "gymnasium", "mujoco"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


def result_of(
    found: Sequence[Rollout],
    times: PlanTimes,
    settings: dict[str, Any],
    *,
    seconds: float | None = None,
) -> EvaluationResult:
    """The result of these episodes, in any order, which took `seconds`; settings must name the
    `environment`."""
    found = sorted(found, key=lambda rollout: rollout.number)
    returns = np.array([rollout.episode_return for rollout in found])
    references = score_range(settings["environment"])
    return EvaluationResult(
        returns=returns,
        scores=None if references is None else normalized_score(returns, references),
        lengths=np.array([rollout.length for rollout in found]),
        terminated=np.array([rollout.terminated for rollout in found]),
        seeds=np.array([rollout.seed for rollout in found]),
        plan_times=times,
        settings=settings,
        versions=software_versions(),
        seconds=seconds,
    )


def _running_mean(found: list[Rollout], env_id: str) -> str:
    mean = float(np.mean([rollout.episode_return for rollout in found]))
    references = score_range(env_id)
    if references is None:
        return f"return {mean:.1f}"
    return f"score {float(normalized_score(np.array(mean), references)):.1f}"


def _distribution(values: np.ndarray) -> dict[str, Any]:
    mean, error = mean_and_error(values)
    quantiles = np.quantile(values, QUANTILES)
    return {
        "mean": mean,
        "standard_error": error,
        "quantiles": {f"{q:g}": float(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
    }


def _describe_objective(objective: Objective) -> Any:
    if objective is None:
        return "learned"
    if callable(objective):
        return getattr(objective, "__qualname__", repr(objective))
    return [{"term": type(term).__name__, **dataclasses.asdict(term)} for term in objective]
