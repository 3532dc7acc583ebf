"""Iterated sample-score-rank: re-noise the best candidates a little, denoise, predict and rank again.

    python -m benchmarks.iterated_ssr hopper --env Hopper-v5 --rounds 1 --angle 0.4 --json iterated.json

An arm that has to earn its place before it becomes an option of the planner: episodes, seeds and report
are those of `dmpc-fast evaluate`. Round 0 draws N candidates; each further round re-noises the best
`--parents` of all so far to `--angle`, N children in all, and ranks everything together. `--rounds 0`
with `--num-samples 128` costs what one further round of 64 does. For models without history.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np

from benchmarks.arm_policy import ArmPolicy, arm_parser, plannable, report
from dmpc_fast import objectives
from dmpc_fast.backends import registry
from dmpc_fast.backends.base import Backend, CandidateGroup, PlanRequest, PlanResult
from dmpc_fast.planning.elites import elite_mean, elites_of
from dmpc_fast.spec import ModelSpec, SamplerSpec


class IteratedPolicy(ArmPolicy):
    """Every plan in rounds."""

    def __init__(self, engine: Backend, spec: ModelSpec, args: argparse.Namespace) -> None:
        super().__init__(spec, args)
        self.engine, self.rounds, self.parents = engine, args.rounds, args.parents
        if not 1 <= self.parents <= self.count:
            raise ValueError(f"--parents must be from 1 to {self.count}, got {self.parents}")
        own = spec.stages["proposal"].sampler
        assert own is not None  # the spec gives the proposal one
        below = tuple(angle for angle in own.angles if angle < args.angle)
        self.children = SamplerSpec(own.rule, (args.angle, *below))

    def plan(self, request: PlanRequest, slots: np.ndarray) -> np.ndarray:
        result = self.engine.plan(request)
        for number in range(self.rounds):
            result = _joined(result, self.engine.plan(self._next_round(request, result, number)))
        return elite_mean(result.actions, elites_of(result, self.elites))

    def _next_round(self, request: PlanRequest, found: PlanResult, number: int) -> PlanRequest:
        parents = np.argsort(-found.scores, axis=1)[:, : self.parents]
        best = np.take_along_axis(found.actions, parents[:, :, None, None], axis=1)
        start = np.repeat(best, self.count // self.parents, axis=1).astype(np.float32)
        group = CandidateGroup(
            start.shape[1], self.children, None, np.ascontiguousarray(start, np.float32)
        )
        # Another key: the children's noise must not be their parents' own.
        return dataclasses.replace(
            request, seed=request.seed + (number + 1) * 1_000_003, groups=(group,)
        )


def _joined(first: PlanResult, second: PlanResult) -> PlanResult:
    actions, states, scores, violations = (
        np.concatenate([getattr(first, name), getattr(second, name)], axis=1)
        for name in ("actions", "states", "scores", "violations")
    )
    best = objectives.best_candidate(scores, violations, np.zeros_like(scores))
    return PlanResult(best, actions, states, scores, violations)


def main() -> None:
    parser = arm_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="after the first one")
    parser.add_argument("--angle", type=float, default=0.4, help="to which parents are re-noised")
    parser.add_argument("--parents", type=int, default=8)
    args = parser.parse_args()
    model = plannable(args.model)
    engine = registry.create("cpu", model, dtype=args.dtype, threads=1)
    report(IteratedPolicy(engine, model.spec, args), model, args)


if __name__ == "__main__":
    main()
