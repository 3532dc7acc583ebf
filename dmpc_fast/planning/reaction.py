"""When the policy answers in place of a plan, and what it answers."""

from __future__ import annotations

import time
from typing import Any, Literal

import numpy as np

from dmpc_fast.backends.base import Backend, CandidateGroup, PlanRequest, check_policy
from dmpc_fast.planning.robots import History
from dmpc_fast.spec import ModelSpec

Mode = Literal["plan", "policy"]
MODES = ("plan", "policy")
#: What produced an action: a plan made for it, an earlier plan, or the policy.
PLANNED, CARRIED, POLICY = "planned", "carried", "policy"
_ONE = (CandidateGroup(1),)


class Reaction:
    """The reactive side of a planner.

    mode: ``plan``, or ``policy`` to let the policy alone act. fallback: whether the policy, where the
    model has one, answers when a plan could not be ready in time.

    Raises ValueError for another mode, and for ``policy`` where the model has none.
    """

    def __init__(self, spec: ModelSpec, mode: str, fallback: bool) -> None:
        if mode not in MODES:
            raise ValueError(f"mode must be one of {MODES}, got {mode!r}")
        if mode == "policy":
            check_policy(spec)
        self.mode = mode
        self.fallback = bool(fallback) and spec.policy is not None

    def answers(
        self,
        engine: Any,
        robots: int,
        num_samples: int,
        due_time: float | None,
        *,
        learned_objective: bool,
    ) -> bool:
        """Whether the policy acts for so many robots that need an action by `due_time`.

        The engine says what the least of a plan should take; one that keeps no deadlines cannot
        tell, and its planners have none. Under another objective than the learned one, whose rewards
        and bounds the policy does not know, it is no fallback.
        """
        if self.mode == "policy":
            return True
        if not self.fallback or not learned_objective or due_time is None:
            return False
        if time.perf_counter() + engine.least_seconds(robots, num_samples) <= due_time:
            return False
        engine.skip()
        return True


def reactions(
    engine: Backend, states: np.ndarray, contexts: np.ndarray, history: History
) -> np.ndarray:
    """The policy's actions (B, A) for states (B, S), contexts (B, size) and what went before.

    Raises RuntimeError where they are not finite.
    """
    nothing = np.zeros(len(states), np.int64)
    request = PlanRequest(
        states=history.window(states),
        actions=history.actions,
        mask=history.mask,
        context=contexts,
        seed=0,
        robots=nothing,
        plan_index=nothing,
        groups=_ONE,
    )
    actions = engine.react(request)
    if not np.isfinite(actions).all():
        raise RuntimeError("the policy gave an action that is not finite")
    return actions.astype(np.float32, copy=False)
