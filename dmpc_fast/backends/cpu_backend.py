"""The C++ engine: a whole plan as one native program. This adapter checks arrays and does no maths."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dmpc_fast.backends.base import (
    BackendUnavailableError,
    CandidateGroup,
    Level,
    PlanRequest,
    PlanResult,
    check_array,
    check_deadline,
    check_policy,
    check_request,
)
from dmpc_fast.model_file import Model
from dmpc_fast.objectives import Term
from dmpc_fast.spec import SamplerSpec

DTYPES = ("float32", "bf16", "int8")


class CpuBackend:
    """Runs a model on the CPU, without torch.

    Args:
        model: the loaded model.
        dtype: ``float32``; ``bf16`` or ``int8`` for the operands of the large matrix products.
        threads: threads of the engine, the caller included; None for one per processor, up to 16.
        instruction_set: ``auto``, or one of ``portable``, ``avx2``, ``avx512``, ``avx512_bf16``.
        spin: idle threads spin instead of sleeping: plans start sooner, cores stay busy.
        pin: tie each thread but the caller to a processor of its own.

    Raises:
        BackendUnavailableError: the extension is missing, or this machine or build lacks the dtype
            or the instruction set.
    """

    name = "cpu"

    def __init__(
        self,
        model: Model,
        *,
        dtype: str = "float32",
        threads: int | None = None,
        instruction_set: str = "auto",
        spin: bool = False,
        pin: bool = False,
    ) -> None:
        if dtype not in DTYPES:
            raise BackendUnavailableError(f"backend 'cpu' runs dtype {DTYPES}, not {dtype!r}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be 1 or more, got {threads}")
        try:
            native = importlib.import_module("dmpc_fast._engine")
        except ImportError as error:
            raise BackendUnavailableError(f"the C++ engine cannot be imported: {error}") from error
        self._spec = model.spec
        if instruction_set not in native.instruction_sets():
            raise BackendUnavailableError(
                f"instruction_set must be one of {native.instruction_sets()} on this machine, got "
                f"{instruction_set!r}"
            )
        self._engine = native.Engine(
            model.spec.to_json(),
            {name: np.ascontiguousarray(array) for name, array in model.tensors.items()},
            dtype,
            threads=threads or 0,
            instruction_set=instruction_set,
            spin=spin,
            pin=pin,
        )

    @property
    def instruction_set(self) -> str:
        """The instruction set whose kernels run."""
        name: str = self._engine.instruction_set
        return name

    @property
    def threads(self) -> int:
        count: int = self._engine.threads
        return count

    def sample(self, request: PlanRequest) -> np.ndarray:
        """Draw proposals: (B, N, F, A), clipped to the action bounds."""
        actions: np.ndarray = self._call(self._engine.sample, request)
        return actions

    def predict(self, request: PlanRequest, actions: np.ndarray) -> np.ndarray:
        """States (B, N, F, S) that follow `actions` (B, N, F, A)."""
        self._check(request, "actions", actions, self._spec.action_size)
        states: np.ndarray = self._call(self._engine.predict, request, actions)
        return states

    def score(
        self, request: PlanRequest, states: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, violations and tie-breaks, each (B, N), of given trajectories."""
        self._check(request, "states", states, self._spec.state_size)
        self._check(request, "actions", actions, self._spec.action_size)
        scores, violations, tie_breaks = self._call(self._engine.score, request, states, actions)
        return scores, violations, tie_breaks

    def plan(self, request: PlanRequest) -> PlanResult:
        """sample, predict, score and rank as one, within the deadline if there is one.

        A plan that the deadline cuts depends on the machine's pace; its levels make it again.
        """
        return _result(
            self._call(
                self._engine.plan, request, deadline_s=request.deadline_s, levels=request.levels
            )
        )

    def repeated(self, request: PlanRequest, num_elites: int) -> RepeatedPlan:
        """`request`, of one robot and a model that sees no past, to be planned again and again.

        Its arrays `robots` and `plan_index` are read anew each time, its states are replaced.
        num_elites: candidates whose mean is run.
        """
        native = self._call(lambda made: made, request)
        return RepeatedPlan(self._engine, native, num_elites)

    def react(self, request: PlanRequest) -> np.ndarray:
        """The policy's actions (B, A), clipped to the action bounds; float32 in every dtype."""
        check_policy(self._spec)
        actions: np.ndarray = self._engine.react(
            request.states, request.actions, request.mask, request.context
        )
        return actions

    def least_seconds(self, robots: int, num_samples: int) -> float:
        """Seconds that the least of a plan should take, which no deadline can cut; 0 before the
        first plan."""
        seconds: float = self._engine.least_seconds(robots, num_samples)
        return seconds

    def skip(self) -> None:
        """A plan was not asked for because of `least_seconds`, which is believed a little less."""
        self._engine.skip()

    def _call(
        self,
        stage: Callable[..., Any],
        request: PlanRequest,
        *trajectories: np.ndarray,
        deadline_s: float | None = None,
        levels: np.ndarray | None = None,
    ) -> Any:
        """What a method of the engine gives for `request`.

        The engine checks all that it takes, in a fraction of the time; what it refuses is looked at
        here for an error that names the array and the reason.
        """
        if request.deadline_s is not None:
            check_deadline(request.deadline_s)
        terms = request.objective
        try:
            native = self._engine.request(
                request.states,
                request.actions,
                request.mask,
                request.context,
                request.seed,
                request.robots,
                request.plan_index,
                [_group(group) for group in request.groups],
                None if terms is None else [_term(term) for term in terms],
                deadline_s,
                levels,
            )
            return stage(native, *trajectories)
        except (TypeError, ValueError):
            check_request(self._spec, request)
            _check_layout(request)
            raise

    def _check(self, request: PlanRequest, name: str, array: np.ndarray, size: int) -> None:
        shape = (len(request.states), request.num_samples, self._spec.horizon, size)
        check_array(name, array, shape)
        _check_contiguous(name, array)


class RepeatedPlan:
    """A request that the engine keeps in its own form; only what differs from plan to plan is said.

    Made by `CpuBackend.repeated`.
    """

    def __init__(self, engine: Any, native: Any, num_elites: int) -> None:
        self._engine, self._native, self._num_elites = engine, native, num_elites

    def observe(self, observation: Any) -> bool:
        """The robot is now in `observation`. False, and nothing done, unless that is a contiguous
        vector (S,) of finite float32 or float64."""
        seen: bool = isinstance(observation, np.ndarray) and self._native.observe(observation)
        return seen

    def plan(self, chosen: np.ndarray, deadline_s: float = math.inf) -> tuple[Any, ...] | None:
        """Plan, and leave in `chosen` (1, F, A) float32 the actions that are run: the elites' mean.

        Returns what `result` makes a `PlanResult` of; None, with `chosen` as it was, where no
        candidate has finite actions and a score.
        """
        made: tuple[Any, ...] | None = self._engine.follow(
            self._native, chosen, self._num_elites, deadline_s
        )
        return made

    def react(self) -> np.ndarray | None:
        """The policy's action (A,) in what was observed; None where it is not finite."""
        action: np.ndarray | None = self._engine.respond(self._native)
        return action

    @staticmethod
    def result(made: tuple[Any, ...]) -> PlanResult:
        """What `plan` returned, as every backend gives it."""
        return _result(made)


def _result(made: tuple[Any, ...]) -> PlanResult:
    best, actions, states, scores, violations, levels, level = made
    return PlanResult(best, actions, states, scores, violations, levels, _level(*level))


#: Most plans reach the same one.
_level = functools.lru_cache(maxsize=16)(Level)


def _check_layout(request: PlanRequest) -> None:
    for name in ("states", "actions", "mask", "context", "robots", "plan_index"):
        _check_contiguous(f"request.{name}", getattr(request, name))
    for group in request.groups:
        if group.start is not None:
            _check_contiguous("a group's start", group.start)
    if request.levels is not None:
        _check_contiguous("request.levels", request.levels)


def _check_contiguous(name: str, array: np.ndarray) -> None:
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} must be C-contiguous, got strides {array.strides}")


def _group(group: CandidateGroup) -> tuple[Any, ...]:
    """(count, proposal sampler, dynamics sampler, start) as the engine takes it."""
    return int(group.count), _sampler(group.proposal), _sampler(group.dynamics), group.start


def _sampler(sampler: SamplerSpec | None) -> tuple[str, list[float]] | None:
    return None if sampler is None else (sampler.rule, [float(angle) for angle in sampler.angles])


def _term(term: Term) -> tuple[Any, ...]:
    """(kind, weight, index, target, variance, low, high); what a kind lacks is never read."""
    low, high = getattr(term, "low", None), getattr(term, "high", None)
    return (
        type(term).__name__,
        getattr(term, "weight", 1.0),
        getattr(term, "index", 0),
        getattr(term, "target", 0.0),
        getattr(term, "variance", 1.0),
        -math.inf if low is None else low,
        math.inf if high is None else high,
    )
