"""Episodes driven by a search: one robot, one plan after another."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import gymnasium
import numpy as np

from dmpc_fast.data.spaces import flatten_observations
from dmpc_fast.evaluation.environments import environment_action, step_limit
from dmpc_fast.evaluation.rival_planners.searches import Search
from dmpc_fast.evaluation.rival_planners.world import World


@dataclass
class Driven:
    """returns (undiscounted) and lengths of episodes; plan_s: processor seconds of each plan."""

    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    plan_s: list[float] = field(default_factory=list)


def drive_episodes(
    environment: gymnasium.Env,
    world: World,
    search: Search,
    *,
    episodes: int,
    seed: int,
    action_chunk: int = 1,
    max_steps: int | None = None,
) -> Driven:
    """Run episodes, the i-th reset with seed + i; of each plan `action_chunk` actions run."""
    driven = Driven()
    limit = step_limit(environment, max_steps)
    keys = world.spec.environment.observation_keys
    for episode in range(episodes):
        rng = np.random.default_rng([seed, episode])
        observation, _ = environment.reset(seed=seed + episode)
        world.begin(episode)
        plan: np.ndarray | None = None
        used, total, length, ended = 0, 0.0, 0, False
        while not ended and length < limit:
            if plan is None or used == action_chunk:
                begin = time.process_time()
                world.observe(flatten_observations(observation, keys))
                plan = search.plan(world, None if plan is None else _shifted(plan, used), rng)
                driven.plan_s.append(time.process_time() - begin)
                used = 0
            action = np.clip(plan[used], world.low, world.high).astype(np.float32)
            observation, reward, terminated, truncated, _ = environment.step(
                environment_action(environment, action)
            )
            used, total, length = used + 1, total + float(reward), length + 1
            ended = terminated or truncated
        driven.returns.append(total)
        driven.lengths.append(length)
    return driven


def _shifted(plan: np.ndarray, steps: int) -> np.ndarray:
    """The plan from `steps` later on, its last action held."""
    return np.concatenate([plan[steps:], np.repeat(plan[-1:], steps, axis=0)])
