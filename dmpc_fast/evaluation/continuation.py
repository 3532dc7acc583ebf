"""What follows a plan: each candidate's true future, carried on by the proposal alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dmpc_fast.backends.base import Backend, CandidateGroup, PlanRequest
from dmpc_fast.evaluation.truth import Futures, TrueFutures
from dmpc_fast.planning.robots import History
from dmpc_fast.spec import ModelSpec


class Continuation(NamedTuple):
    """How candidates are carried on after their own steps.

    steps: how many. chunk: actions run of each proposal. seed: of the random stream; all candidates
    draw the same noise at the same step, so that they differ by what they did before.
    """

    steps: int
    chunk: int
    seed: int


class TrueParts(NamedTuple):
    """True sums over a future, (N,) float64: sum_k gamma^k r_k, and -gamma^k penalty for an end at
    step k."""

    reward: np.ndarray
    termination: np.ndarray

    @property
    def total(self) -> np.ndarray:
        both: np.ndarray = self.reward + self.termination
        return both


def discounted(spec: ModelSpec, futures: Futures) -> TrueParts:
    """The discounted rewards and penalties of true futures."""
    ends = futures.terminated.copy()
    ends[:, 1:] &= ~futures.terminated[:, :-1]
    powers = spec.discount ** np.arange(futures.rewards.shape[1])
    return TrueParts(futures.rewards @ powers, -spec.termination_penalty * (ends @ powers))


def continued_returns(
    backend: Backend,
    spec: ModelSpec,
    truth: TrueFutures,
    request: PlanRequest,
    actions: np.ndarray,
    futures: Futures,
    how: Continuation,
) -> np.ndarray:
    """Discounted return of what follows `actions` (N, K, A), whose `futures` are given: (N,).

    The robot is driven on by one proposal at a time (N = 1): the return of a policy that knows
    neither dynamics nor objective, counted from the state after the candidate's last step and cut
    off after `how.steps`. A candidate whose episode has ended gets 0.
    """
    returns = np.zeros(len(actions))
    rows = np.flatnonzero(futures.going)
    history = _history_after(spec, request, actions[rows], futures.states[rows])
    states, physics = futures.states[rows, -1], futures.last.rows(rows)
    step = 0
    while step < how.steps and rows.size:
        length = min(how.chunk, how.steps - step)
        proposed = backend.sample(_request(spec, request, history, states, step, how))[:, 0]
        chunk = np.ascontiguousarray(proposed[:, :length])
        following = truth.roll(physics, chunk)
        returns[rows] += spec.discount**step * discounted(spec, following).total
        history = _pushed(history, states, chunk, following.states)
        going = np.flatnonzero(following.going)
        rows, history = rows[going], history.rows(going)
        states, physics = following.states[going, -1], following.last.rows(going)
        step += length
    return returns


def _request(
    spec: ModelSpec,
    first: PlanRequest,
    history: History,
    states: np.ndarray,
    step: int,
    how: Continuation,
) -> PlanRequest:
    count = len(states)
    return PlanRequest(
        states=history.window(states),
        actions=history.actions,
        mask=history.mask,
        context=np.repeat(first.context, count, axis=0),
        seed=how.seed,
        robots=np.zeros(count, np.int64),
        plan_index=np.full(count, step, np.int64),
        groups=(CandidateGroup(1, first.groups[0].proposal, first.groups[0].dynamics),),
    )


def _history_after(
    spec: ModelSpec, request: PlanRequest, actions: np.ndarray, states: np.ndarray
) -> History:
    """The histories of candidates that have run, (N, K, A) leading to (N, K, S)."""
    zeros = np.zeros(len(actions), np.int64)
    before = History(request.states[:, :-1], request.actions, request.mask).rows(zeros)
    return _pushed(before, request.states[zeros, -1], actions, states)


def _pushed(
    history: History, present: np.ndarray, actions: np.ndarray, states: np.ndarray
) -> History:
    for step in range(actions.shape[1]):
        history = history.pushed(present, actions[:, step])
        present = states[:, step]
    return history
