"""What every backend takes and gives: one request, one result, four pure functions.

Arrays at this seam are C-contiguous NumPy, float32, environment units (a backend of dtype float64
gives float64). B robots, N candidates, F
horizon, S state, A action, H history. A backend keeps no state between calls: the same request gives
the same result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dmpc_fast import objectives, philox
from dmpc_fast.objectives import Term
from dmpc_fast.spec import ModelSpec, SamplerSpec


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
    learned objective. deadline_s: seconds from the call, None for none.
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

    @property
    def num_samples(self) -> int:
        return sum(group.count for group in self.groups)


@dataclass(frozen=True)
class PlanResult:
    """best: (B,) int64. actions: (B, N, F, A) as they would run. states: (B, N, F, S).
    scores: (B, N). violations: (B, N), 0 where every constraint holds."""

    best: np.ndarray
    actions: np.ndarray
    states: np.ndarray
    scores: np.ndarray
    violations: np.ndarray


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


def check_array(
    name: str, array: np.ndarray, shape: tuple[int, ...], dtype: type = np.float32
) -> None:
    """Raise ValueError unless `array` has exactly this shape and dtype; floats must be finite."""
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else repr(array)
        raise ValueError(f"{name} must be an array of {np.dtype(dtype)} {shape}, got {got}")
    if dtype is np.float32 and not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got NaN or infinity")
