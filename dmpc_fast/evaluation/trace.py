"""One episode in full: what the planner expected at each plan, and what happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.data.spaces import flatten_observations
from dmpc_fast.evaluation.environments import (
    check_environment,
    environment_action,
    make_environment,
    step_limit,
)
from dmpc_fast.evaluation.policies import Objective, PlannerSettings

#: Discount up to which the unknown return after a cut-off may be neglected.
MISSING_TAIL = 0.1


@dataclass(frozen=True)
class Trace:
    """An episode of T steps with P plans, of which K are kept whole.

    states (T + 1, S), actions (T, A), rewards (T,). realized (T,): discounted return-to-go with the
    termination penalty, by the model's discount. complete (T,): whether it counts as the whole
    return, though the episode may have been cut off: what is missing is discounted to 10 % or less.
    plan_steps (P,): the steps at which plans were
    made. predicted (P,): the chosen candidates' scores. kept_steps (K,), kept_states (K, N, F, S),
    kept_best (K,): candidates' predicted states of the plans made there. frames: RGB pictures,
    uint8, one a step, if the episode was filmed.
    """

    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    realized: np.ndarray
    complete: np.ndarray
    plan_steps: np.ndarray
    predicted: np.ndarray
    kept_steps: np.ndarray
    kept_states: np.ndarray
    kept_best: np.ndarray
    frames: list[np.ndarray]
    control_period_s: float


def trace_episode(
    model: Path,
    env_id: str,
    *,
    seed: int,
    backend: str = "auto",
    dtype: str = "float32",
    num_samples: int | None = None,
    action_chunk: int | None = None,
    num_elites: int | None = None,
    objective: Objective = None,
    modify: Sequence[str] = (),
    max_steps: int | None = None,
    allow_period_mismatch: bool = False,
    film: bool = False,
    keep_plans: int = 12,
    planner_options: dict[str, Any] | None = None,
) -> Trace:
    """Run the episode that `evaluate` runs as its first one with this seed, and keep it.

    film: render every step. keep_plans: at most so many plans are kept with all their candidates,
    spread evenly over the episode. Other options are those of `evaluate`.
    """
    settings = PlannerSettings(
        Path(model), backend, dtype, num_samples, action_chunk, num_elites, objective, seed,
        dict(planner_options or {}),
    )  # fmt: skip
    planner = settings.load(1)
    spec = planner.spec
    if film:
        from dmpc_fast.evaluation.video import choose_renderer

        choose_renderer()
    environment = make_environment(env_id, modify=modify, render_mode="rgb_array" if film else None)
    keys = spec.environment.observation_keys
    log = _Log(keep_plans)
    try:
        check_environment(environment, spec, allow_period_mismatch=allow_period_mismatch)
        limit = step_limit(environment, max_steps)
        observation, _ = environment.reset(seed=seed)
        planner.reset(robots=[0], stream_ids=[0])
        log.states.append(flatten_observations(observation, keys))
        terminated = truncated = False
        while not (terminated or truncated) and len(log.actions) < limit:
            if film:
                log.frames.append(_frame(environment))
            before = planner.last_plan
            action = planner.act(log.states[-1][None])[0]
            if planner.last_plan is not before:
                log.planned(planner.last_plan)
            command = environment_action(environment, action)
            observation, reward, terminated, truncated, _ = environment.step(command)
            log.actions.append(action)
            log.rewards.append(float(reward))
            log.states.append(flatten_observations(observation, keys))
    finally:
        environment.close()
    penalty = spec.termination_penalty if terminated else 0.0
    return Trace(
        states=np.stack(log.states),
        actions=np.stack(log.actions),
        rewards=np.array(log.rewards, np.float32),
        terminated=bool(terminated),
        realized=discounted_returns(log.rewards, spec.discount, penalty),
        complete=terminated | (spec.discount ** np.arange(len(log.rewards), 0, -1) <= MISSING_TAIL),
        plan_steps=np.array(log.plan_steps),
        predicted=np.array(log.predicted),
        kept_steps=np.array([step for step, _, _ in log.kept]),
        kept_states=np.stack([states for _, states, _ in log.kept]),
        kept_best=np.array([best for _, _, best in log.kept]),
        frames=log.frames,
        control_period_s=spec.environment.control_period_s,
    )


class _Log:
    """Lists that grow with the episode; plans are thinned out so that at most `keep` stay."""

    def __init__(self, keep: int) -> None:
        self.states: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []
        self.rewards: list[float] = []
        self.frames: list[np.ndarray] = []
        self.plan_steps: list[int] = []
        self.predicted: list[float] = []
        self.kept: list[tuple[int, np.ndarray, int]] = []
        self._keep, self._stride = max(2, keep), 1

    def planned(self, plan: Any) -> None:
        """Note the plan (of one robot, with its leading dimension) made at the present step."""
        step, best = len(self.actions), int(plan.best[0])
        if len(self.plan_steps) % self._stride == 0:
            self.kept.append((step, plan.states[0], best))
            if len(self.kept) > self._keep:
                self.kept = self.kept[::2]
                self._stride *= 2
        self.plan_steps.append(step)
        self.predicted.append(float(plan.scores[0, best]))


def _frame(environment: Any) -> np.ndarray:
    frame = environment.render()
    if not isinstance(frame, np.ndarray):
        raise ValueError(f"environment {environment} gave no picture, but {type(frame).__name__}")
    return frame


def discounted_returns(rewards: list[float], discount: float, penalty: float) -> np.ndarray:
    """Discounted return from each step on (T,), `penalty` taken off at the last one."""
    total, result = 0.0, np.zeros(len(rewards))
    for step in range(len(rewards) - 1, -1, -1):
        last = step == len(rewards) - 1
        total = rewards[step] + (-penalty if last else discount * total)
        result[step] = total
    return result
