"""States that the planner itself visits, kept so that their candidates can be put to the test."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np

from dmpc_fast.backends.base import PlanRequest
from dmpc_fast.data.spaces import flatten_observations
from dmpc_fast.evaluation.environments import environment_action, step_limit
from dmpc_fast.evaluation.trace import MISSING_TAIL, discounted_returns
from dmpc_fast.evaluation.truth import PhysicsState, TrueFutures

#: A start before this step counts as one at rest: the robot has yet to get going.
REST_STEPS = 10
#: Share of an episode's starts that are its first plans; the others are spread evenly over the rest.
REST_SHARE = 1 / 3


@dataclass(frozen=True)
class Start:
    """A state at which the planner made a plan: its request, of one robot, and the physics there."""

    episode: int
    step: int
    request: PlanRequest
    physics: PhysicsState

    @property
    def at_rest(self) -> bool:
        return self.step < REST_STEPS


@dataclass
class Drives:
    """Episodes that the planner drove.

    starts: the kept ones. predicted, realized: the chosen candidate's score and the discounted
    return that followed, for every plan whose remaining episode tells it to 10 %. plan_s: seconds
    of each decision that made a plan, without the first. returns, lengths, terminated: of episodes.
    """

    starts: list[Start] = field(default_factory=list)
    predicted: list[float] = field(default_factory=list)
    realized: list[float] = field(default_factory=list)
    plan_s: list[float] = field(default_factory=list)
    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    terminated: list[bool] = field(default_factory=list)


def drive_for_starts(
    planner: Any,
    environment: gymnasium.Env,
    truth: TrueFutures,
    *,
    episodes: int,
    starts: int,
    seed: int,
    max_steps: int | None = None,
    on_episode: Any = None,
) -> Drives:
    """Run the episodes that `evaluate` runs with this seed and keep `starts` of their plans.

    planner: of one robot with its leading dimension (`num_robots=1`). on_episode: called with an
    episode's number when it is over. Raises ValueError for counts that are not positive.
    """
    if episodes < 1 or starts < episodes:
        raise ValueError(
            f"episodes must be at least 1 and starts one each, got {episodes} and {starts}"
        )
    drives = Drives()
    limit = step_limit(environment, max_steps)
    for number in range(episodes):
        wanted = (number + 1) * starts // episodes - number * starts // episodes
        plans = _drive(planner, environment, truth, number, seed + number, limit, drives)
        drives.starts.extend(plans[index] for index in spread(len(plans), wanted))
        if on_episode is not None:
            on_episode(number)
    del drives.plan_s[0]  # it warms everything up
    return drives


def _drive(
    planner: Any,
    environment: gymnasium.Env,
    truth: TrueFutures,
    number: int,
    seed: int,
    limit: int,
    drives: Drives,
) -> list[Start]:
    """Run one episode into `drives`; gives all of its plans."""
    spec = planner.spec
    keys = spec.environment.observation_keys
    observation, _ = environment.reset(seed=seed)
    planner.reset(robots=[0], stream_ids=[number])
    plans: list[Start] = []
    scores: list[float] = []
    rewards: list[float] = []
    terminated = truncated = False
    while not (terminated or truncated) and len(rewards) < limit:
        state = flatten_observations(observation, keys)[None]
        before, physics = planner.last_plan, truth.now()
        begin = time.perf_counter()
        action = planner.act(state)[0]
        seconds = time.perf_counter() - begin
        if planner.last_plan is not before:
            plan = planner.last_plan
            drives.plan_s.append(seconds)
            scores.append(float(plan.scores[0, plan.best[0]]))
            plans.append(Start(number, len(rewards), plan.origin.requests[0][1], physics))
        command = environment_action(environment, action)
        observation, reward, terminated, truncated, _ = environment.step(command)
        rewards.append(float(reward))
    penalty = spec.termination_penalty if terminated else 0.0
    realized = discounted_returns(rewards, spec.discount, penalty)
    left = len(rewards) - np.array([plan.step for plan in plans])
    known = (spec.discount**left <= MISSING_TAIL) | bool(terminated)
    drives.predicted.extend(np.array(scores)[known].tolist())
    drives.realized.extend(realized[[plan.step for plan in plans]][known].tolist())
    drives.returns.append(float(np.sum(rewards)))
    drives.lengths.append(len(rewards))
    drives.terminated.append(bool(terminated))
    return plans


def spread(count: int, wanted: int) -> list[int]:
    """Which of an episode's `count` plans to keep: its first ones, then evenly over the rest."""
    if wanted >= count:
        return list(range(count))
    first = min(wanted, max(1, round(REST_SHARE * wanted)))
    later = np.linspace(first, count - 1, wanted - first).round().astype(int)
    return sorted({*range(first), *later.tolist()})
