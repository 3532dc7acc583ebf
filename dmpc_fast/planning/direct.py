"""The short way of one robot to its action.

After a plan Python's own code and NumPy's are no longer in the caches, so that every function on the
way costs microseconds: the general way takes some hundreds a plan, as much as the smallest models'
plans themselves. Here the engine is asked with a request that it keeps and chooses what is run, and the
plan's record is put together only for whoever asks. Actions and plans are the same, to the bit.
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import numpy as np

from dmpc_fast.backends.base import CandidateGroup, PlanRequest
from dmpc_fast.backends.cpu_backend import CpuBackend, RepeatedPlan
from dmpc_fast.objectives import Term
from dmpc_fast.planning.answer import Answerer, as_made
from dmpc_fast.planning.live_model import LiveModel
from dmpc_fast.planning.plan import Plan
from dmpc_fast.planning.reaction import CARRIED, PLANNED, POLICY
from dmpc_fast.planning.robots import Robots
from dmpc_fast.spec import ModelSpec


class _Key(NamedTuple):
    """What a kept request was made for."""

    live: LiveModel
    seed: int
    objective: tuple[Term, ...] | None


class _Made(NamedTuple):
    """A plan of which no record was asked for yet."""

    key: _Key
    observation: np.ndarray
    stream: int
    plan_index: int
    answer: tuple[Any, ...]
    late: bool


class Direct:
    """Acts for one robot without a past, on the C++ engine, by terms and without a search.

    spec: of such a model (H = 1, no context). robots: the planner's, whose state is read and written
    in place. group, action_chunk, num_elites, mode: the planner's. fallback: whether a policy may act
    in place of a plan that would be late.
    """

    def __init__(
        self,
        spec: ModelSpec,
        robots: Robots,
        group: CandidateGroup,
        action_chunk: int,
        num_elites: int,
        *,
        mode: str,
        fallback: bool,
    ) -> None:
        self._spec, self._robots, self._group = spec, robots, group
        self._action_chunk, self._num_elites = action_chunk, num_elites
        self._mode, self._fallback = mode, fallback
        self._key: _Key | None = None
        self._repeated: RepeatedPlan | None = None
        self._made: _Made | None = None
        self._row = np.zeros(1, np.int64)

    @staticmethod
    def fits(spec: ModelSpec) -> bool:
        """Whether a model has nothing to say to it but states."""
        return spec.history == 1 and not spec.context

    def act(
        self,
        live: LiveModel,
        seed: int,
        objective: tuple[Term, ...] | None,
        observation: Any,
        limit_s: float,
    ) -> tuple[np.ndarray, str] | None:
        """The next action (A,), and what produced it, as `Planner.last_source` has it.

        limit_s: seconds from now within which a plan should be ready, or infinity. None, with nothing
        changed, for what only the general way can answer: other backends, observations that are no
        plain vectors of finite numbers, a plan without a candidate.
        """
        if not isinstance(live.engine, CpuBackend):
            return None
        began = time.perf_counter()
        repeated = self._request(live, seed, objective)
        if not repeated.observe(observation):
            return None
        if self._mode == "policy":
            return self._react(repeated)
        own = self._robots
        done = own.executed.item(0)
        source = CARRIED
        if done >= self._action_chunk:
            hurried = limit_s != math.inf
            may_react = hurried and self._fallback and objective is None
            if may_react and live.engine.least_seconds(1, self._group.count) > limit_s:
                reaction = self._react(repeated)
                if reaction is not None:
                    live.engine.skip()
                return reaction
            answer = repeated.plan(own.plans, limit_s)
            if answer is None:
                return None
            late = hurried and time.perf_counter() - began > limit_s
            assert self._key is not None  # of the request just planned
            self._made = _Made(
                self._key,
                np.array(observation, np.float32),
                own.streams.item(0),
                own.plan_index.item(0),
                answer,
                late,
            )
            own.plan_index[0] += 1
            done, source = 0, PLANNED
        own.executed[0] = done + 1
        return own.plans[0, done].copy(), source

    def _react(self, repeated: RepeatedPlan) -> tuple[np.ndarray, str] | None:
        action = repeated.react()
        if action is None:
            return None
        # The robot has left the way of the plan in progress.
        self._robots.executed[0] = self._robots.no_plan
        return action, POLICY

    def plan(self, answerer: Answerer) -> Plan | None:
        """The record of the latest plan, None where it was given before or none was made."""
        made, self._made = self._made, None
        if made is None:
            return None
        request = self._state(made.key.seed, made.key.objective)
        request.states[0, 0] = made.observation
        request.robots[0], request.plan_index[0] = made.stream, made.plan_index
        result = RepeatedPlan.result(made.answer)
        plan = answerer.assemble(
            made.key.live,
            [result],
            ((self._row, as_made(request, result)),),
            None,
            single=True,
            num_elites=self._num_elites,
            late=made.late,
        )
        self._robots.predicted[0] = plan.chosen_states
        return plan

    def forget(self) -> None:
        """No record of the latest plan will be asked for: there is a later one of another way."""
        self._made = None

    def _request(
        self, live: LiveModel, seed: int, objective: tuple[Term, ...] | None
    ) -> RepeatedPlan:
        key = self._key
        same = (
            key is not None and key.live is live and key.seed == seed and key.objective is objective
        )
        if not same or self._repeated is None:
            assert isinstance(live.engine, CpuBackend)
            request = self._state(seed, objective, own=self._robots)
            self._repeated = live.engine.repeated(request, self._num_elites)
            self._key = _Key(live, seed, objective)
        return self._repeated

    def _state(
        self, seed: int, objective: tuple[Term, ...] | None, own: Robots | None = None
    ) -> PlanRequest:
        """A request of zeros; `own`: with the counters of those robots, not with copies."""
        spec = self._spec
        return PlanRequest(
            states=np.zeros((1, 1, spec.state_size), np.float32),
            actions=np.zeros((1, 0, spec.action_size), np.float32),
            mask=np.zeros((1, 0), np.float32),
            context=np.zeros((1, 0), np.float32),
            seed=seed,
            robots=np.zeros(1, np.int64) if own is None else own.streams,
            plan_index=np.zeros(1, np.int64) if own is None else own.plan_index,
            groups=(self._group,),
            objective=objective,
        )
