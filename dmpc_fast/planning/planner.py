"""The planner: sample candidates, predict what they lead to, score and rank them, run the best."""

from __future__ import annotations

import functools
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast import objectives, philox
from dmpc_fast.backends import registry
from dmpc_fast.backends.base import (
    Backend,
    CandidateGroup,
    PlanRequest,
    check_deadline,
)
from dmpc_fast.model_file import Model, load_model
from dmpc_fast.objectives import Term
from dmpc_fast.planning import inputs
from dmpc_fast.planning.answer import Answerer
from dmpc_fast.planning.direct import Direct
from dmpc_fast.planning.iterated_search import IteratedSearch
from dmpc_fast.planning.live_model import LiveModel, Replacement
from dmpc_fast.planning.plan import (
    Plan,
    recorded_elites,
    recorded_rounds,
    recorded_search,
    requests_of,
)
from dmpc_fast.planning.ranking import Objective, objective_name
from dmpc_fast.planning.reaction import CARRIED, PLANNED, POLICY, Reaction, reactions
from dmpc_fast.planning.renoising import check_renoising
from dmpc_fast.planning.robots import Expectation, Robots, Turn
from dmpc_fast.planning.warm_start import WarmStart, shifted
from dmpc_fast.spec import MAX_ELITES, SamplerSpec

DEFAULT_SAMPLES = 64
MAX_SAMPLES = 1 << 20


class Planner:
    """Sample, score, rank (D-MPC, Zhou et al. 2024) for one robot or B at once.

    Holds all state there is at run time: history, place in the random stream, plan in progress.
    Made by `load`.

    Attributes:
        spec: sizes and settings of the model. backend, dtype: what runs it. num_samples: N.
        action_chunk: actions that are run of one plan. num_elites: candidates whose mean is run, 1 for
            the best alone. num_robots: B, or None for a single robot.
        deadline_s: seconds that a plan may take, or None. seed: key of the random stream.
        last_plan: the plan behind the latest action that needed one, its leading dimension being the
            robots in `last_planned` if there are several.
        mode: what acts, ``plan`` or ``policy``. fallback: whether the policy acts where time lacks.
        last_source: what produced the latest action, ``planned``, ``carried`` (from an earlier plan)
            or ``policy``; with `num_robots` an array, one for each robot that acted.
    """

    def __init__(
        self,
        model: Model,
        backend: Backend,
        *,
        dtype: str,
        num_samples: int | None = None,
        seed: int = 0,
        num_robots: int | None = None,
        action_chunk: int | None = None,
        num_elites: int | None = None,
        proposal_sampler: SamplerSpec | None = None,
        dynamics_sampler: SamplerSpec | None = None,
        warm_start: WarmStart | None = None,
        search: IteratedSearch | None = None,
        deadline_s: float | None = None,
        mode: str = "plan",
        fallback: bool = True,
        create: Callable[[Model], Backend] | None = None,
    ) -> None:
        self.spec, self.backend, self.dtype = model.spec, backend.name, dtype
        recommended = model.spec.recommended
        if num_samples is None:
            num_samples = recommended.get("num_samples", DEFAULT_SAMPLES)
        if action_chunk is None:
            action_chunk = recommended.get("action_chunk", 1)
        if num_elites is None:
            num_elites = recommended.get("num_elites", 1)
        self.num_samples = inputs.integer("num_samples", num_samples, 1, MAX_SAMPLES)
        self.action_chunk = inputs.integer("action_chunk", action_chunk, 1, self.spec.horizon)
        self.num_elites = inputs.integer("num_elites", num_elites, 1, MAX_ELITES)
        if num_robots is not None:
            num_robots = inputs.integer("num_robots", num_robots, 1, philox.MAX_ROBOT + 1)
        self.num_robots = num_robots
        self.seed = _seed(seed)
        self.deadline_s = None if deadline_s is None else check_deadline(deadline_s)
        self._reaction = Reaction(self.spec, mode, fallback)
        self.mode, self.fallback = self._reaction.mode, self._reaction.fallback
        self.last_source: str | np.ndarray = PLANNED
        self._last_plan: Plan | None = None
        self.last_planned = np.zeros(0, np.int64)
        self._live, self._warm_start = LiveModel(backend, model.sha256), warm_start
        self._replacement = Replacement(model, create)
        self.search = search
        if search is not None:
            search.check(self.spec, self.num_samples)
        if warm_start is not None:
            check_renoising(self.spec, "WarmStart")
        self._cold = CandidateGroup(self.num_samples, proposal_sampler, dynamics_sampler)
        self._objective: tuple[Term, ...] | Objective | None = None
        self._robots = Robots(num_robots or 1, self.spec)
        self._no_context = np.zeros((num_robots or 1, 0), np.float32)
        self._answerer = Answerer(self.spec, self.backend, dtype)
        plain = num_robots is None and warm_start is None and search is None
        self._direct = (
            Direct(
                self.spec,
                self._robots,
                self._cold,
                self.action_chunk,
                self.num_elites,
                mode=self.mode,
                fallback=self.fallback,
            )
            if plain and Direct.fits(self.spec)
            else None
        )
        # Refuses a deadline that no plan of this planner could keep.
        self._due_time(None)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | Model,
        *,
        backend: str = "auto",
        dtype: str = "float32",
        num_samples: int | None = None,
        seed: int = 0,
        num_robots: int | None = None,
        action_chunk: int | None = None,
        num_elites: int | None = None,
        control_period_s: float | None = None,
        allow_period_mismatch: bool = False,
        proposal_sampler: SamplerSpec | None = None,
        dynamics_sampler: SamplerSpec | None = None,
        warm_start: WarmStart | None = None,
        search: IteratedSearch | None = None,
        deadline_s: float | None = None,
        mode: str = "plan",
        fallback: bool = True,
        **options: Any,
    ) -> Planner:
        """A planner for the model file at `path`, or for a model in memory.

        Args:
            backend: ``auto``, ``torch``, ``cpu`` or ``triton``. dtype: ``float32``, ``bf16``, ``int8``.
            num_samples: candidates N; default the file's recommendation or 64.
            seed: 64-bit key of the random stream: same seed, same plans.
            num_robots: B to plan for several at once; None for one, without that dimension.
            action_chunk: actions run per plan; default the file's recommendation or 1.
            num_elites: run the mean of so many best candidates (all of them, if there are fewer);
                default the file's recommendation or 1, the best alone.
            control_period_s: seconds between the caller's actions. A period other than the model's
                is refused unless `allow_period_mismatch`.
            proposal_sampler, dynamics_sampler: in place of the file's.
            warm_start: keep part of the previous plan; None starts every plan from pure noise. A
                student must have learned to jump from below it, as for `search`.
            search: rounds of candidates near the best ones; None for the first N alone.
            deadline_s: seconds within which a plan should be ready; what there is no time for is left
                out, rounds of a search first, then steps, then candidates, and `Plan.level` says how
                far it got. The
                backend ``cpu`` keeps deadlines, for objectives that are no callables.
            mode: ``plan``, or ``policy`` to act by the model's reactive policy, which knows the
                learned objective alone.
            fallback: let the policy, where the model has one, act when even the least of a plan should
                take longer than the deadline, under the learned objective alone; else such a plan
                is late.
            options: the backend's own, such as `threads`.

        Raises:
            ModelFileError: the file is not a valid model.
            BackendUnavailableError: the backend or dtype cannot be used here.
            ValueError: an option is out of range, or the control period differs.
        """
        model = path if isinstance(path, Model) else load_model(Path(path))
        period = model.spec.environment.control_period_s
        given = period if control_period_s is None else control_period_s
        if not allow_period_mismatch and not math.isclose(given, period, rel_tol=1e-6):
            raise ValueError(
                f"control_period_s is {given} but the model was trained for {period} s between "
                "actions; pass allow_period_mismatch=True to plan all the same"
            )
        engine = registry.create(backend, model, dtype=dtype, **options)
        return cls(
            model,
            engine,
            dtype=dtype, num_samples=num_samples, seed=seed, num_robots=num_robots,
            action_chunk=action_chunk, num_elites=num_elites, proposal_sampler=proposal_sampler,
            dynamics_sampler=dynamics_sampler, warm_start=warm_start, search=search,
            deadline_s=deadline_s,
            mode=mode, fallback=fallback,
            create=functools.partial(registry.create, engine.name, dtype=dtype, **options),
        )  # fmt: skip

    @property
    def model_sha256(self) -> str:
        """Hash of the model file that the next plan will run on."""
        return self._live.sha256

    @property
    def last_plan(self) -> Plan | None:
        """The plan behind the latest action that needed one; None before the first."""
        if self._direct is not None:
            # Its record is made for whoever asks first.
            self._last_plan = self._direct.plan(self._answerer) or self._last_plan
        return self._last_plan

    @property
    def plan_index(self) -> int | np.ndarray:
        """Plans made since the reset: an int, or (B,)."""
        index = self._robots.plan_index
        return int(index[0]) if self.num_robots is None else index.copy()

    def expectation(self) -> Expectation:
        """What the plans in progress say that the robots will be in next: states (S,) or (B, S) and
        steps, an int or (B,). NaN and -1 where there is no such plan."""
        # A plan of which nobody asked for the record has left no predictions yet.
        _ = self.last_plan
        expected = self._robots.expectation()
        if self.num_robots is None:
            return Expectation(expected.states[0], int(expected.steps[0]))
        return expected

    def update_dynamics(self, path: str | os.PathLike[str] | Model) -> None:
        """Plan with other weights of the dynamics from the next plan on.

        path: a model file, or a model in memory, that differs from the planner's in the weights of
        its dynamics and its provenance alone, such as `dmpc_fast.finetune` makes. May be called while
        another thread is in `act` or `plan`: the new engine is made aside and takes the old one's
        place at once, and a plan that has begun ends on the model it began with. Actions of a plan in
        progress are run as they are; history and random stream go on. Later records name the new
        file.

        Raises:
            ModelFileError: the file is not a valid model.
            ValueError: the model differs in something else, which is named, or the planner was not
                made by `load`. The planner is then as it was.
        """
        with self._replacement.lock:
            model = path if isinstance(path, Model) else load_model(Path(path))
            self._live = self._replacement.prepare(model)

    def set_objective(self, objective: Sequence[Term] | Objective | None) -> None:
        """Rank by this from the next plan on.

        None: the learned objective. A list of terms of `dmpc_fast.objectives`. Or a callable
        (history (H, S+A), states (N, F, S), actions (N, F, A)) -> scores (N,) in environment units,
        higher is better, called for one robot at a time.
        """
        if callable(objective):
            self._objective = objective
        else:
            self._objective = objectives.validate(objective, self.spec.state_size)

    def reset(
        self,
        seed: int | None = None,
        robots: Sequence[int] | np.ndarray | None = None,
        stream_ids: Sequence[int] | np.ndarray | None = None,
    ) -> None:
        """Begin a new episode: clears history and plan, and restarts the plan index.

        Args:
            seed: a new key of the random stream; all robots share one, so it may change only when
                all are reset. None keeps it.
            robots: which of several robots; default all.
            stream_ids: those robots' numbers in the random stream, 0 to 65535, one for each of
                `robots`; default their own indices.
        """
        slots = streams = self._slots(robots)
        if stream_ids is not None:
            streams = _indices("stream_ids", stream_ids, philox.MAX_ROBOT + 1)
            if streams.shape != slots.shape:
                raise ValueError(
                    f"stream_ids must hold one number for each of {len(slots)} robots, got "
                    f"{len(streams)}"
                )
        if seed is not None:
            seed = _seed(seed)
            if seed != self.seed and len(slots) < (self.num_robots or 1):
                raise ValueError(
                    "seed can change only when all robots are reset; give single robots their own "
                    "random numbers with stream_ids"
                )
            self.seed = seed
        self._robots.reset(slots, streams)

    def plan(
        self,
        obs: Any,
        context: Any = None,
        robots: Sequence[int] | np.ndarray | None = None,
        *,
        deadline_s: float | None = None,
    ) -> Plan:
        """Plan from here without going on: same state, same plan, unless a deadline cuts it.

        obs (S,) or (B, S), context (size,) or (B, size), robots and deadline_s as for `act`; raises
        ValueError for anything else and for NaN or infinity.
        """
        due_time = self._due_time(deadline_s)
        return self._plan(self._turn(obs, context, robots), due_time)

    def act(
        self,
        obs: Any,
        previous_action: Any = None,
        context: Any = None,
        robots: Sequence[int] | np.ndarray | None = None,
        *,
        deadline_s: float | None = None,
    ) -> np.ndarray:
        """The action to run now: float32 (A,) or (B, A), inside the action bounds.

        Plans for those robots whose previous plan has run its `action_chunk` actions. When it raises,
        nothing has changed.

        Args:
            obs: the observation (S,) or (B, S).
            previous_action: what has really run since the last call, if it was not the action that
                was returned; enters the history of models with H > 1.
            context: of models that take one, (size,) or (B, size).
            robots: which of several robots act, each once; B is then their number, and the others
                stay as they are. Default all.
            deadline_s: seconds from now within which the plan, if one is needed, should be ready;
                None for the planner's own, infinity for none.
        """
        plain = previous_action is None and context is None and robots is None
        if plain and self._direct is not None and not callable(self._objective):
            limit = self.deadline_s if deadline_s is None else check_deadline(deadline_s)
            action = self._act_directly(obs, math.inf if limit is None else limit)
            if action is not None:
                return action
        due_time = self._due_time(deadline_s)
        turn = self._turn(obs, context, robots)
        count = len(turn.slots)
        if previous_action is not None:
            ran = self._vectors("previous_action", previous_action, count, self.spec.action_size)
            turn = turn._replace(history=turn.history.with_last_action(ran))
        due = self._robots.due(turn.slots, self.action_chunk)
        if self.mode == "policy":
            due = np.arange(count)
        live, source = self._live, CARRIED
        if due.size and self._reaction.answers(
            live.engine,
            due.size,
            self.num_samples,
            due_time,
            learned_objective=self._objective is None,
        ):
            source = POLICY
            actions = self._react(live.engine, turn, due)
        else:
            if due.size:
                part, source = turn.part(due), PLANNED
                plan = self._plan(part, due_time)
                self._robots.follow(part.slots, plan.chosen_actions, plan.chosen_states)
                self._keep(plan)
                self.last_planned = part.slots
            actions = self._robots.step(turn)
        if self.num_robots is None:
            self.last_source = source
            return actions[0]
        self.last_source = np.full(count, CARRIED)
        self.last_source[due] = source
        return actions

    def _act_directly(self, obs: Any, limit_s: float) -> np.ndarray | None:
        assert self._direct is not None and not callable(self._objective)
        acted = self._direct.act(self._live, self.seed, self._objective, obs, limit_s)
        if acted is None:
            return None
        action, self.last_source = acted
        if self.last_source == PLANNED:
            self.last_planned = self._robots.everyone
        return action

    def _keep(self, plan: Plan) -> None:
        """`plan` is the latest one from now on."""
        if self._direct is not None:
            self._direct.forget()
        self._last_plan = plan

    def replay(self, record: dict[str, Any], objective: Objective | None = None) -> Plan:
        """Make the plan of `Plan.record()` again; the planner's own state plays no part.

        objective: the callable that ranked it, if one did. Raises ValueError for another model's
        record.
        """
        live = self._live
        requests = requests_of(
            record, self.spec, live.sha256, custom_objective=objective is not None
        )
        search = recorded_search(record)
        return self._answerer.answer(
            live,
            requests,
            objective,
            single=bool(record.get("single")),
            num_elites=recorded_elites(record),
            search=search,
            rounds=recorded_rounds(record, search),
        )

    def _slots(self, robots: Sequence[int] | np.ndarray | None) -> np.ndarray:
        if robots is None:
            return self._robots.everyone
        slots = _indices("robots", robots, self.num_robots or 1)
        if len(np.unique(slots)) < len(slots) or not slots.size:
            raise ValueError(f"robots must name at least one robot, each once, got {robots!r}")
        return slots

    def _turn(self, obs: Any, context: Any, robots: Sequence[int] | np.ndarray | None) -> Turn:
        """What those robots are in, all of it checked."""
        slots = self._slots(robots)
        states, contexts = self._observe(obs, context, len(slots))
        return self._robots.turn(slots, states, contexts)

    def _vectors(self, name: str, value: Any, count: int, size: int) -> np.ndarray:
        return inputs.vectors(name, value, None if self.num_robots is None else count, size)

    def _observe(self, obs: Any, context: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
        """States (count, S) and contexts (count, size) of so many robots."""
        spec = self.spec
        keys = spec.environment.observation_keys
        if not isinstance(obs, np.ndarray) and isinstance(obs, Mapping):
            obs = inputs.flattened(obs, None if self.num_robots is None else count, keys)
        states = self._vectors("observation", obs, count, spec.state_size)
        if context is None and spec.context:
            raise ValueError(f"this model needs a context of size {spec.context}, got None")
        if context is None:
            return states, self._no_context[:count]
        return states, self._vectors("context", context, count, spec.context)

    def _due_time(self, deadline_s: float | None) -> float | None:
        """When a plan asked for now must be ready, as `time.perf_counter` counts."""
        limit = self.deadline_s if deadline_s is None else check_deadline(deadline_s)
        if limit is None or math.isinf(limit):
            return None
        if callable(self._objective):
            raise ValueError(
                f"deadline_s is {limit} but the objective {objective_name(self._objective)} is a "
                "callable, which cannot be cut short"
            )
        return time.perf_counter() + limit

    def _react(self, engine: Backend, turn: Turn, due: np.ndarray) -> np.ndarray:
        """Actions (B, A), those of the robots in the rows `due` by the policy."""
        part = turn.part(due)
        reacting = reactions(engine, part.states, part.contexts, part.history)
        self._robots.depart(part, reacting)
        if part is turn:
            return reacting
        actions = np.empty((len(turn.slots), self.spec.action_size), np.float32)
        actions[due] = reacting
        following = np.delete(np.arange(len(turn.slots)), due)
        actions[following] = self._robots.step(turn.part(following))
        return actions

    def _plan(self, turn: Turn, due_time: float | None) -> Plan:
        """Plan for the robots whose turn it is."""
        own, objective = self._robots, self._objective
        custom = objective if callable(objective) else None
        requests = []
        for rows, warm in self._parts(turn.slots):
            part = turn.part(rows)
            request = PlanRequest(
                states=part.history.window(part.states),
                # Copies, since the plan will be the caller's.
                actions=part.history.actions.copy(),
                mask=part.history.mask.copy(),
                context=part.contexts,
                seed=self.seed,
                robots=own.streams.take(part.slots),
                plan_index=own.plan_index.take(part.slots),
                groups=self._groups(part.slots, warm=warm),
                objective=None if callable(objective) else objective,
            )
            requests.append((rows, request))
        # Read once: an update of the model meanwhile is for the next plan.
        return self._answerer.answer(
            self._live,
            requests,
            custom,
            single=self.num_robots is None,
            num_elites=self.num_elites,
            search=self.search,
            due_time=due_time,
        )

    def _parts(self, robots: np.ndarray) -> list[tuple[np.ndarray, bool]]:
        """Rows of `robots` that can share a request, and whether they have a plan to start from."""
        if self._warm_start is None:
            return [(np.arange(len(robots)), False)]
        own = self._robots
        warm = own.executed[robots] < self.spec.horizon
        parts = [(np.flatnonzero(~warm), False), (np.flatnonzero(warm), True)]
        return [(rows, is_warm) for rows, is_warm in parts if rows.size]

    def _groups(self, robots: np.ndarray, *, warm: bool) -> tuple[CandidateGroup, ...]:
        if self._warm_start is None or not warm:
            return (self._cold,)
        sampler = self._cold.proposal or self.spec.stages["proposal"].sampler
        assert sampler is not None  # the spec gives the proposal one
        previous = shifted(self._robots.plans[robots], self._robots.executed[robots])
        return self._warm_start.groups(self._cold, sampler, previous)


def _seed(seed: Any) -> int:
    return inputs.integer("seed", seed, 0, (1 << 64) - 1)


def _indices(name: str, values: Any, end: int) -> np.ndarray:
    array = np.asarray(values)
    whole = array.ndim == 1 and (array.dtype.kind in "iu" or array.size == 0)
    if not whole or np.any((array < 0) | (array >= end)):
        raise ValueError(f"{name} must be a list of integers from 0 to {end - 1}, got {values!r}")
    return array.astype(np.int64)
