"""Whether a row of the benchmark plans what the reference plans: checked before it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.baselines.plan_graph import PlanGraph, PlanParts
from benchmarks.workload import Work
from dmpc_fast.statistics import rank_correlation

#: Unit round-off of what products read, and how many times it an output's relative error may be.
#: Errors of the layers add up over the network evaluations, about as their square root. The largest
#: factors that any variant has needed are 11 in float32, 4 in bf16 and 8 in int8.
ROUND_OFF = {"float32": 2.0**-24, "bf16": 2.0**-9, "int8": 1 / 254}
FACTOR = 20.0
#: Roundings of what the scores of all candidates share, by variants that add it up in their dtype.
SHARED_ROUNDINGS = 2.0


@dataclass(frozen=True)
class Parity:
    """Root mean square errors over the reference's spread, and the rank agreement of scores.

    bound: what errors of actions and states must stay below. score_bound: the scores', wider by how
    much of them all candidates share, for that part is rounded, too.
    """

    actions: float
    states: float
    scores: float
    rank: float
    bound: float
    score_bound: float

    @property
    def holds(self) -> bool:
        return max(self.actions, self.states) <= self.bound and self.scores <= self.score_bound


def reference(work: Work) -> list[np.ndarray]:
    """Actions, states and scores of the plan in float64 on the same noise."""
    graph = PlanGraph(PlanParts(work.model, *work.cell.steps)).double().eval()
    inputs = [torch.from_numpy(array).double() for array in work.inputs()]
    with torch.inference_mode():
        return [tensor.numpy() for tensor in graph(*inputs)][:3]


def compare(
    outputs: Sequence[np.ndarray], expected: list[np.ndarray], work: Work, dtype: str
) -> Parity:
    """Parity of outputs (actions, states, scores) with `reference(work)`."""
    errors = [
        float(np.sqrt(np.mean((np.asarray(got, np.float64) - want) ** 2)) / want.std())
        for got, want in zip(outputs[:3], expected, strict=True)
    ]
    evaluations = sum(work.cell.steps) + 1
    scores = np.asarray(outputs[2], np.float64)
    bound = FACTOR * ROUND_OFF[dtype] * evaluations**0.5
    shared = abs(float(expected[2].mean())) / float(expected[2].std())
    rank = rank_correlation(scores, expected[2])
    score_bound = bound + SHARED_ROUNDINGS * ROUND_OFF[dtype] * shared
    return Parity(*errors, rank, bound, score_bound)
