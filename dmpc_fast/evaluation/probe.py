"""Everything that can be known of the candidates of one plan: predicted, true, and how they scored."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dmpc_fast.backends.base import Backend, PlanRequest
from dmpc_fast.evaluation.continuation import (
    Continuation,
    TrueParts,
    continued_returns,
    discounted,
)
from dmpc_fast.evaluation.starts import Start
from dmpc_fast.evaluation.truth import Futures, TrueFutures
from dmpc_fast.objectives import Alive, LearnedReward, LearnedValue, Term
from dmpc_fast.spec import ModelSpec

#: How much further from their mean the candidates are moved to see what more diversity would bring.
WIDENING = 2.0


class Parts(NamedTuple):
    """The learned objective and its three parts, which sum to it, (M,) each."""

    total: np.ndarray
    reward: np.ndarray
    termination: np.ndarray
    value: np.ndarray


@dataclass(frozen=True)
class Probe:
    """M candidates of one start, the planner's own N first.

    at_rest: see `Start`. present (S,): the state. actions (M, F, A). predicted, true (M, F, S):
    states. over (M, F): where the true episode has ended. by_predicted, by_true: the objective on
    predicted and on true states. rewards: the true ones over F. going (M,): not ended. with_value
    (M,): `rewards` and, while going, the objective's value part on true states. continued (2, M):
    discounted return after F under two continuations. returns (2, M): rewards and what followed
    them. wide_returns (2, N): the same of the first N candidates moved `WIDENING` times as far from
    their mean. executed_returns (2, M): over as many steps, where only the first chunk of a candidate
    runs before the continuation takes over.
    """

    at_rest: bool
    present: np.ndarray
    actions: np.ndarray
    predicted: np.ndarray
    true: np.ndarray
    over: np.ndarray
    by_predicted: Parts
    by_true: Parts
    rewards: TrueParts
    going: np.ndarray
    with_value: np.ndarray
    continued: np.ndarray
    returns: np.ndarray
    wide_returns: np.ndarray
    executed_returns: np.ndarray


def probe(
    backend: Backend,
    spec: ModelSpec,
    truth: TrueFutures,
    start: Start,
    *,
    candidates: int,
    continuations: tuple[Continuation, Continuation],
) -> Probe:
    """Measure `candidates` candidates of the plan made at `start`, at least as many as it had."""
    group = start.request.groups[0]
    request = dataclasses.replace(
        start.request, groups=(dataclasses.replace(group, count=candidates),)
    )
    actions = backend.sample(request)
    predicted = backend.predict(request, actions)[0]
    futures = truth.roll(start.physics, actions[0])
    by_true = _parts(backend, request, futures.states, actions[0])
    rewards = discounted(spec, futures)

    def follow(run: np.ndarray, futures: Futures, more: int = 0) -> np.ndarray:
        return np.stack(
            [
                continued_returns(
                    backend,
                    spec,
                    truth,
                    request,
                    run,
                    futures,
                    how._replace(steps=how.steps + more),
                )
                for how in continuations
            ]
        )

    continued = follow(actions[0], futures)
    wide = widened(spec, actions[0, : group.count])
    wide_futures = truth.roll(start.physics, wide)
    chunk = continuations[0].chunk
    executed = np.ascontiguousarray(actions[0, :, :chunk])
    executed_futures = truth.roll(start.physics, executed)
    last = spec.discount**spec.horizon
    over = np.zeros(futures.terminated.shape, bool)
    over[:, 1:] = futures.terminated[:, :-1]
    return Probe(
        at_rest=start.at_rest,
        present=request.states[0, -1],
        actions=actions[0],
        predicted=predicted,
        true=futures.states,
        over=over,
        by_predicted=_parts(backend, request, predicted, actions[0]),
        by_true=by_true,
        rewards=rewards,
        going=futures.going,
        with_value=rewards.total + futures.going * by_true.value,
        continued=continued,
        returns=rewards.total + last * continued,
        wide_returns=discounted(spec, wide_futures).total + last * follow(wide, wide_futures),
        executed_returns=discounted(spec, executed_futures).total
        + spec.discount**chunk * follow(executed, executed_futures, spec.horizon - chunk),
    )


def widened(spec: ModelSpec, actions: np.ndarray) -> np.ndarray:
    """Candidates (N, F, A) moved away from their mean by `WIDENING`, within the bounds."""
    mean = actions.mean(axis=0)
    moved = mean + WIDENING * (actions - mean)
    environment = spec.environment
    low = [-np.inf if bound is None else bound for bound in environment.action_low]
    high = [np.inf if bound is None else bound for bound in environment.action_high]
    return np.ascontiguousarray(np.clip(moved, low, high), np.float32)


def _parts(
    backend: Backend, request: PlanRequest, states: np.ndarray, actions: np.ndarray
) -> Parts:
    def score(terms: tuple[Term, ...] | None) -> np.ndarray:
        asked = dataclasses.replace(request, objective=terms)
        scores: np.ndarray = backend.score(asked, states[None], actions[None])[0][0]
        return scores.astype(np.float64)

    return Parts(
        score(None), score((LearnedReward(),)), score((Alive(),)), score((LearnedValue(),))
    )
