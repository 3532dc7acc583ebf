"""Record a Minari dataset: a planner, or random actions, in an environment that may be changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from tqdm import tqdm

from dmpc_fast.data.minari import CONTROL_PERIOD_KEY, ENVIRONMENT_KEY
from dmpc_fast.data.minari_writer import DatasetWriter
from dmpc_fast.data.spaces import observation_layout, stack_observations
from dmpc_fast.evaluation.environments import check_environment, make_environment
from dmpc_fast.evaluation.evaluate import slots_each, software_versions
from dmpc_fast.evaluation.policies import Objective, PlannerSettings, PlanTimes
from dmpc_fast.evaluation.rollouts import Rollout
from dmpc_fast.evaluation.scores import score_range
from dmpc_fast.evaluation.workers import RolloutTask, rollouts
from dmpc_fast.model_file import load_model

#: In place of a model: uniform actions within their bounds.
RANDOM = "random"


@dataclass(frozen=True)
class CollectionResult:
    """What was recorded: the dataset, its folder, and its episodes' undiscounted returns (E,)."""

    dataset_id: str
    path: Path
    steps: int
    returns: np.ndarray


def collect(
    env_id: str,
    dataset_id: str,
    *,
    model: Path | str,
    steps: int | None = None,
    episodes: int | None = None,
    seed: int = 0,
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
    data_format: str = "hdf5",
    overwrite: bool = False,
    planner_options: dict[str, Any] | None = None,
    progress: bool = True,
) -> CollectionResult:
    """Record whole episodes as the Minari dataset `dataset_id`: at least `steps` steps in all, or so
    many `episodes`, one of which must be given.

    model: a model file's path, or "random" for uniform actions. The data do not depend on `workers`
    (processes) and `batch` (episodes at once in each), and hold actions as commanded. Other
    options are those of `evaluate`. overwrite: replace a dataset of that id. Interrupted, it leaves
    nothing.
    """
    amount = steps if episodes is None else episodes
    if amount is None or (steps is not None and episodes is not None):
        raise ValueError(f"give either steps or episodes, got {steps} and {episodes}")
    if amount < 1:
        name = "steps" if episodes is None else "episodes"
        raise ValueError(f"{name} must be at least 1, got {amount}")
    slots = slots_each(batch, workers)
    environment = make_environment(env_id, modify=modify)
    try:
        planner = None
        if model == RANDOM:
            keys, _ = observation_layout(environment.observation_space, f"environment {env_id!r}")
            author, sha256 = "uniform random actions", None
        else:
            loaded = load_model(Path(model))
            check_environment(environment, loaded.spec, allow_period_mismatch=allow_period_mismatch)
            keys = loaded.spec.environment.observation_keys
            author, sha256 = f"dmpc-fast planner, {Path(model).name}", loaded.sha256
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
        metadata = _metadata(environment, env_id, author, sha256, modify, seed)
        writer = DatasetWriter(
            dataset_id,
            environment,
            metadata=metadata,
            data_format=data_format,
            overwrite=overwrite,
        )
    finally:
        environment.close()
    task = RolloutTask(env_id, tuple(modify), planner, keys, seed, slots, max_steps, record=True)
    returns: list[float] = []
    unit = "step" if episodes is None else "ep"
    with writer, tqdm(total=amount, unit=unit, disable=None if progress else True) as bar:
        stream = rollouts(task, workers=workers, limit=None, times=PlanTimes())
        for rollout in _in_order(stream):
            recording = rollout.recording
            assert recording is not None
            writer.add(
                stack_observations(recording.observations),
                recording.actions,
                recording.rewards,
                terminated=rollout.terminated,
                seed=rollout.seed,
            )
            returns.append(rollout.episode_return)
            bar.update(rollout.length if episodes is None else 1)
            if (writer.steps if episodes is None else len(returns)) >= amount:
                stream.close()
                break
    return CollectionResult(dataset_id, writer.path, writer.steps, np.array(returns))


def _in_order(stream: Iterator[Rollout]) -> Iterator[Rollout]:
    """Episodes by number, so that which ones are kept does not depend on which ended first."""
    waiting: dict[int, Rollout] = {}
    following = 0
    for rollout in stream:
        waiting[rollout.number] = rollout
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def _metadata(
    environment: gymnasium.Env,
    env_id: str,
    author: str,
    sha256: str | None,
    modify: Sequence[str],
    seed: int,
) -> dict[str, Any]:
    changes = f", changed by {', '.join(modify)}" if modify else ""
    versions = ", ".join(f"{name} {version}" for name, version in software_versions().items())
    metadata: dict[str, Any] = {
        "algorithm_name": author,
        "description": f"{env_id}{changes}: {author}; episode i was reset with seed {seed} + i. "
        f"Observations, actions and rewards are float32. {versions}.",
        "robot_changes": list(modify),
        ENVIRONMENT_KEY: environment.spec.id if environment.spec is not None else env_id,
        "model_sha256": sha256,
    }
    period = getattr(environment.unwrapped, "dt", None)
    if period is not None:
        metadata[CONTROL_PERIOD_KEY] = float(period)
    references = score_range(env_id)
    if references is not None:
        metadata["ref_min_score"], metadata["ref_max_score"] = references
        metadata["num_episodes_average_score"] = 100
    return metadata
