"""Run-time objectives: the terms that a user writes down, what they mean, how they join and rank.

Environment units; s_k is the state after action a_k, k = 0..F-1. With the file's discount gamma,

    J = sum_k gamma^k C_k (sum of the per-step terms at k) + gamma^F C_F weight V

C_k is the learned probability of having gone on, C_0 = 1 and C_{k+1} = C_k c_k, where the list has
a learned term (`LearnedReward`, `LearnedValue`, `Alive`; of whatever weight). Otherwise C_k = 1 and
the objective network is not run. With several ensemble members J is their mean.

Candidates rank by smallest violation of the constraints, then highest score J, then highest
tie-break: the logarithm of the Gaussian terms' part of J, which still tells candidates apart where
exp(...) underflows. One definition serves NumPy and torch: functions take the namespace `xp`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, get_args

import numpy as np


def _check_fields(term: Any) -> None:
    """Store every field of a term as int or float; raise ValueError for what is neither finite
    number nor, where the default is None, None."""
    name = type(term).__name__
    for field in dataclasses.fields(term):
        value = getattr(term, field.name)
        integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if field.name == "index":
            if not integer or value < 0:
                raise ValueError(f"{name}.index must be an integer from 0 on, got {value!r}")
            object.__setattr__(term, "index", int(value))
        elif value is not None or field.default is not None:
            real = integer or isinstance(value, (float, np.floating))
            if not real or not math.isfinite(value):
                raise ValueError(f"{name}.{field.name} must be a finite number, got {value!r}")
            object.__setattr__(term, field.name, float(value))


class Learned(NamedTuple):
    """Predictions of the objective network in environment units; M members lead every shape.

    reward: r_k (M, ..., F). log_continue: log c_k (M, ..., F). value: V of s_{F-1} (M, ...).
    """

    reward: Any
    log_continue: Any
    value: Any


@dataclass(frozen=True)
class LearnedReward:
    """weight r_k, the learned reward."""

    weight: float = 1.0
    learned: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class LearnedValue:
    """weight gamma^F C_F V, the learned value of the last state."""

    weight: float = 1.0
    learned: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class Alive:
    """-weight penalty (1 - c_k), with the file's termination penalty."""

    weight: float = 1.0
    learned: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class GaussianTarget:
    """weight exp(-(s_k[index] - target)^2 / (2 variance))."""

    index: int
    target: float
    variance: float
    weight: float = 1.0
    learned: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.variance <= 0:
            raise ValueError(f"GaussianTarget.variance must be positive, got {self.variance!r}")


@dataclass(frozen=True)
class QuadraticTarget:
    """-weight (s_k[index] - target)^2."""

    index: int
    target: float
    weight: float = 1.0
    learned: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class Speed:
    """-weight |s_k[index] - target|: hold a velocity."""

    index: int
    target: float
    weight: float = 1.0
    learned: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class ActionCost:
    """-weight sum_i a_k[i]^2."""

    weight: float = 1.0
    learned: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclass(frozen=True)
class StateBound:
    """The constraint low <= s_k[index] <= high at every step; None where there is no bound.

    Its violation is the excess summed over steps, undiscounted. It adds nothing to J.
    """

    index: int
    low: float | None = None
    high: float | None = None
    learned: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.low is None and self.high is None:
            raise ValueError("StateBound must have low, high or both, got neither")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"StateBound must have low <= high, got {self.low} and {self.high}")


Term = (
    LearnedReward
    | LearnedValue
    | Alive
    | GaussianTarget
    | QuadraticTarget
    | Speed
    | ActionCost
    | StateBound
)
TERMS: dict[str, type[Term]] = {cls.__name__: cls for cls in get_args(Term)}
#: What `None` means: the objective that the file was trained for.
LEARNED_OBJECTIVE: tuple[Term, ...] = (LearnedReward(), Alive(), LearnedValue())


def validate(terms: Sequence[Term] | None, state_size: int) -> tuple[Term, ...] | None:
    """`terms` as a tuple, checked against a model of `state_size`; None stays None.

    Raises ValueError for an index outside the state and an empty list, TypeError for other types.
    """
    if terms is None:
        return None
    if not isinstance(terms, Sequence) or isinstance(terms, str):
        raise TypeError(f"an objective must be None or a list of terms, got {terms!r}")
    if not terms:
        raise ValueError("an objective must have at least one term, got an empty list")
    for term in terms:
        if type(term) not in TERMS.values():
            raise TypeError(f"an objective's terms must be of {sorted(TERMS)}, got {term!r}")
        index = getattr(term, "index", 0)
        if index >= state_size:
            raise ValueError(f"{term!r}: index must be below the state size {state_size}")
    return tuple(terms)


def needs_learned(terms: Sequence[Term] | None) -> bool:
    """Whether the objective network has to run."""
    return terms is None or any(term.learned for term in terms)


def to_json(terms: Sequence[Term] | None) -> list[dict[str, Any]] | None:
    """Terms as JSON objects: their fields and the class name under ``term``."""
    if terms is None:
        return None
    return [{"term": type(term).__name__, **dataclasses.asdict(term)} for term in terms]


def from_json(data: Any) -> tuple[Term, ...] | None:
    """The inverse of `to_json`; raises ValueError for anything else."""
    if data is None:
        return None
    terms = []
    for entry in data if isinstance(data, list) else [data]:
        name = entry.get("term") if isinstance(entry, dict) else None
        if name not in TERMS:
            raise ValueError(f"a term must name one of {sorted(TERMS)}, got {entry!r}")
        try:
            terms.append(TERMS[name](**{k: v for k, v in entry.items() if k != "term"}))
        except TypeError as error:
            raise ValueError(f"{entry!r} is not a term: {error}") from None
    return tuple(terms)


def discount_powers(discount: float, horizon: int) -> np.ndarray:
    """gamma^0 .. gamma^F, float64 (F + 1,)."""
    return np.float64(discount) ** np.arange(horizon + 1, dtype=np.float64)


class Evaluation(NamedTuple):
    """What candidates are ranked by, each (...,): see the module's docstring for the order."""

    scores: Any
    violations: Any
    tie_breaks: Any


def evaluate(
    terms: Sequence[Term] | None,
    states: Any,
    actions: Any,
    *,
    discounts: Any,
    penalty: float,
    learned: Learned | None = None,
    xp: Any = np,
) -> Evaluation:
    """Scores, violations and tie-breaks (...,) of trajectories in environment units.

    states (..., F, S), actions (..., F, A), discounts (F + 1,) from `discount_powers`: arrays of the
    namespace `xp` (numpy or torch) and of one dtype. `learned` must be given if `needs_learned`.
    """
    terms = LEARNED_OBJECTIVE if terms is None else terms
    if not needs_learned(terms):
        log_reached = xp.zeros_like(states[None, ..., 0])
        log_last = log_reached[..., -1]
    elif learned is None:
        raise ValueError("an objective with learned terms needs the learned predictions")
    else:
        log_sum = xp.cumsum(learned.log_continue, -1)
        log_reached, log_last = log_sum - learned.log_continue, log_sum[..., -1]

    rates = _step_terms(terms, states, actions, penalty, learned, xp)
    scores = (discounts[:-1] * xp.exp(log_reached) * rates).sum(-1)
    for term in terms:
        if isinstance(term, LearnedValue) and learned is not None:
            scores = scores + term.weight * discounts[-1] * xp.exp(log_last) * learned.value
    log_weights = log_reached + xp.log(discounts[:-1])
    return Evaluation(
        scores.mean(0), _violations(terms, states, xp), _tie_breaks(terms, states, log_weights, xp)
    )


def _step_terms(
    terms: Sequence[Term],
    states: Any,
    actions: Any,
    penalty: float,
    learned: Learned | None,
    xp: Any,
) -> Any:
    """The bracket of J at every step: (M or 1, ..., F)."""
    total = xp.zeros_like(states[None, ..., 0])
    for term in terms:
        if isinstance(term, LearnedReward) and learned is not None:
            total = total + term.weight * learned.reward
        elif isinstance(term, Alive) and learned is not None:
            total = total + term.weight * penalty * xp.expm1(learned.log_continue)
        elif isinstance(term, GaussianTarget):
            total = total + term.weight * xp.exp(_gaussian_exponent(term, states))
        elif isinstance(term, QuadraticTarget):
            total = total - term.weight * (states[..., term.index] - term.target) ** 2
        elif isinstance(term, Speed):
            total = total - term.weight * xp.abs(states[..., term.index] - term.target)
        elif isinstance(term, ActionCost):
            total = total - term.weight * (actions**2).sum(-1)
    return total


def _gaussian_exponent(term: GaussianTarget, states: Any) -> Any:
    return -((states[..., term.index] - term.target) ** 2) / (2 * term.variance)


def _violations(terms: Sequence[Term], states: Any, xp: Any) -> Any:
    total = xp.zeros_like(states[..., 0, 0])
    for term in terms:
        if isinstance(term, StateBound):
            values = states[..., term.index]
            if term.low is not None:
                total = total + (term.low - values).clip(min=0).sum(-1)
            if term.high is not None:
                total = total + (values - term.high).clip(min=0).sum(-1)
    return total


def _tie_breaks(terms: Sequence[Term], states: Any, log_weights: Any, xp: Any) -> Any:
    """log of the positive Gaussian terms' mean over members, minus log of the negative ones'."""
    total = xp.zeros_like(states[..., 0, 0])
    for sign in (1.0, -1.0):
        parts = [
            log_weights + (_gaussian_exponent(term, states) + math.log(sign * term.weight))
            for term in terms
            if isinstance(term, GaussianTarget) and sign * term.weight > 0
        ]
        if parts:
            # (parts, M, ..., F); the sum over members is their mean but for a constant.
            stacked = xp.stack(parts)
            highest = xp.amax(stacked, axis=(0, 1, -1), keepdims=True)
            summed = xp.exp(stacked - highest).sum((0, 1, -1))
            log_sum = xp.log(summed) + highest[0, 0, ..., 0]
            total = total + sign * (log_sum - math.log(log_weights.shape[0]))
    return total


def best_candidate(
    scores: np.ndarray, violations: np.ndarray, tie_breaks: np.ndarray
) -> np.ndarray:
    """Index of the best of N candidates: (..., N) -> (...,) int64; the first of exact equals.

    A candidate that is not a number ranks below every one that is.
    """
    order = np.lexsort((-tie_breaks, -scores, violations), axis=-1)
    return order[..., 0].astype(np.int64)
