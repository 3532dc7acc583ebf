"""What every backend takes and gives: one request, one result, four pure functions.

Arrays at this seam are C-contiguous NumPy, float32, environment units (a backend of dtype float64
gives float64). B robots, N candidates, F
horizon, S state, A action, H history. A backend keeps no state between calls: the same request gives
the same result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dmpc_fast import objectives, philox
from dmpc_fast.objectives import Term
from dmpc_fast.spec import ModelSpec, SamplerSpec

#: Level of a candidate that was not planned, and the lowest one that a sampler can have.
NOT_PLANNED, MAX_LEVEL = -1, 7


class BackendUnavailableError(RuntimeError):
    """A backend was asked for that this machine or installation cannot run; the message says why."""


@dataclass(frozen=True)
class CandidateGroup:
    """Candidates that share how they are sampled.

    count: candidates in the group. proposal, dynamics: samplers, None for the file's own.
    start: None for pure noise, or actions (B, count, F, A) to be re-noised to the first angle of
    `proposal`. Candidates are numbered across groups in order; the random stream uses that number.
    """

    count: int
    proposal: SamplerSpec | None = None
    dynamics: SamplerSpec | None = None
    start: np.ndarray | None = None


@dataclass(frozen=True)
class PlanRequest:
    """Everything that determines a plan.

    states: (B, H, S), oldest first, the last row is s_t. actions: (B, H-1, A), oldest first.
    mask: (B, H-1), 1 where the history is real and 0 before the episode's start (states and actions
    there are ignored). context: (B, context). seed: 64-bit key of the random stream.
    robots, plan_index: (B,) int64, further words of its counter. objective: terms, or None for the
    learned objective. deadline_s: seconds from the call within which `plan` should be ready, None
    for none; what there is no time for is left out, steps first and then candidates. levels:
    (B, N) int8 that say what `plan` leaves out, as a former result had them; None leaves it to the
    deadline. A level halves a candidate's steps that often, -1 leaves the candidate out.
    """

    states: np.ndarray
    actions: np.ndarray
    mask: np.ndarray
    context: np.ndarray
    seed: int
    robots: np.ndarray
    plan_index: np.ndarray
    groups: tuple[CandidateGroup, ...]
    objective: tuple[Term, ...] | None = None
    deadline_s: float | None = None
    levels: np.ndarray | None = None

    @property
    def num_samples(self) -> int:
        return sum(group.count for group in self.groups)


@dataclass(frozen=True)
class Level:
    """How far a plan got; with several robots or groups, the least of any.

    candidates: that were planned. full: of those, with all the steps of their samplers.
    proposal_steps, dynamics_steps: evaluations that a planned candidate had at least. complete:
    every candidate was planned with all steps. missed: it was ready only after its deadline.
    """

    candidates: int
    full: int
    proposal_steps: int
    dynamics_steps: int
    complete: bool
    missed: bool

    @classmethod
    def of_all(cls, spec: ModelSpec, request: PlanRequest) -> Level:
        """That of a plan which left nothing out."""

        def steps(stage: str) -> int:
            own = spec.stages[stage].sampler
            samplers = [getattr(group, stage) or own for group in request.groups]
            return min(len(sampler.angles) for sampler in samplers if sampler is not None)

        count = request.num_samples
        return cls(count, count, steps("proposal"), steps("dynamics"), complete=True, missed=False)

    @classmethod
    def least(cls, levels: Sequence[Level]) -> Level:
        """The level of several plans together."""
        if len(levels) == 1:
            return levels[0]
        return cls(
            candidates=min(level.candidates for level in levels),
            full=min(level.full for level in levels),
            proposal_steps=min(level.proposal_steps for level in levels),
            dynamics_steps=min(level.dynamics_steps for level in levels),
            complete=all(level.complete for level in levels),
            missed=any(level.missed for level in levels),
        )


@dataclass(frozen=True)
class PlanResult:
    """best: (B,) int64. actions: (B, N, F, A) as they would run. states: (B, N, F, S).
    scores: (B, N). violations: (B, N), 0 where every constraint holds. levels: (B, N) int8 of the
    candidates, and the level they amount to; None where everything was planned. A candidate that
    was left out has NaN trajectories, score -infinity, violation infinity, and is never the best.
    """

    best: np.ndarray
    actions: np.ndarray
    states: np.ndarray
    scores: np.ndarray
    violations: np.ndarray
    levels: np.ndarray | None = None
    level: Level | None = None


class Backend(Protocol):
    """One way to run a model. Constructed with a loaded model; raises `BackendUnavailableError`."""

    name: str

    def sample(self, request: PlanRequest) -> np.ndarray:
        """Draw proposals: (B, N, F, A), clipped to the action bounds."""
        ...

    def predict(self, request: PlanRequest, actions: np.ndarray) -> np.ndarray:
        """States (B, N, F, S) that follow `actions` (B, N, F, A)."""
        ...

    def score(
        self, request: PlanRequest, states: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, violations and tie-breaks, each (B, N), of given trajectories."""
        ...

    def plan(self, request: PlanRequest) -> PlanResult:
        """sample, predict, score and rank as one."""
        ...

    def react(self, request: PlanRequest) -> np.ndarray:
        """The policy's actions (B, A), clipped to the action bounds, for states and history of
        `request`. Raises ValueError where the model has no policy."""
        ...


def check_request(spec: ModelSpec, request: PlanRequest) -> None:
    """Raise ValueError unless every array and group of `request` fits a model of `spec`."""
    count, past = len(request.states), spec.history - 1
    for name, shape in (
        ("states", (spec.history, spec.state_size)),
        ("actions", (past, spec.action_size)),
        ("mask", (past,)),
        ("context", (spec.context,)),
    ):
        check_array(name, getattr(request, name), (count, *shape))
    for name in ("robots", "plan_index"):
        check_array(name, getattr(request, name), (count,), np.int64)
    if np.any((request.robots < 0) | (request.robots > philox.MAX_ROBOT)):
        raise ValueError(f"robots must be from 0 to {philox.MAX_ROBOT}, got {request.robots}")
    if not request.groups or any(group.count < 1 for group in request.groups):
        raise ValueError(
            f"groups must hold at least one candidate each, got {[g.count for g in request.groups]}"
        )
    for group in request.groups:
        if group.start is not None:
            trajectories = (count, group.count, spec.horizon, spec.action_size)
            check_array("a group's start", group.start, trajectories)
    objectives.validate(request.objective, spec.state_size)
    if request.deadline_s is not None:
        check_deadline(request.deadline_s)
    if request.levels is not None:
        check_array("levels", request.levels, (count, request.num_samples), np.int8)
        if np.any((request.levels < NOT_PLANNED) | (request.levels > MAX_LEVEL)):
            raise ValueError(
                f"levels must be from {NOT_PLANNED} to {MAX_LEVEL}, got {request.levels}"
            )


def check_policy(spec: ModelSpec) -> None:
    """Raise ValueError unless the model has a policy."""
    if spec.policy is None:
        raise ValueError("the model has no policy: make one with `dmpc-fast distill --policy`")


def check_deadline(deadline_s: float) -> float:
    """`deadline_s` as a float; raises ValueError unless it is a number of seconds, 0 or more."""
    valid = isinstance(deadline_s, (int, float, np.integer, np.floating))
    if not valid or isinstance(deadline_s, bool) or not deadline_s >= 0:
        raise ValueError(f"deadline_s must be a number of seconds, 0 or more, got {deadline_s!r}")
    return float(deadline_s)


def check_array(
    name: str, array: np.ndarray, shape: tuple[int, ...], dtype: type = np.float32
) -> None:
    """Raise ValueError unless `array` has exactly this shape and dtype; floats must be finite."""
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else repr(array)
        raise ValueError(f"{name} must be an array of {np.dtype(dtype)} {shape}, got {got}")
    if dtype is np.float32 and not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
