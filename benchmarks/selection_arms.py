"""Choices of a candidate that distrust the model: pessimism, disagreement, consistency between plans.

    python -m benchmarks.selection_arms MODEL --env ENV --pessimism 1 --predictions 2 --json FILE

A candidate is scored by every network of the objective's ensemble on every one of `--predictions` state
trajectories, predicted from different noise, and ranked by the mean of these less `--pessimism` times
their standard deviation. `--jerk W` takes off W times the squared distance of its first action from the
action that ran last, in units of the candidates' spread of scores and of the actions' range.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np

from benchmarks.arm_policy import ArmPolicy, arm_parser, plannable, report
from dmpc_fast.backends import registry
from dmpc_fast.backends.base import Backend, PlanRequest, PlanResult
from dmpc_fast.model_file import Model
from dmpc_fast.planning.elites import elite_mean, elites_of


def member(model: Model, index: int) -> Model:
    """The model with one network of its objective alone."""
    stages = dict(model.spec.stages)
    stages["objective"] = dataclasses.replace(stages["objective"], members=1)
    own = f"objective.{index}."
    tensors = {
        name.replace(own, "objective.0."): tensor
        for name, tensor in model.tensors.items()
        if not name.startswith("objective.") or name.startswith(own)
    }
    return dataclasses.replace(
        model, spec=dataclasses.replace(model.spec, stages=stages), tensors=tensors
    )


class SelectionPolicy(ArmPolicy):
    """Ranks by what several networks say of several predictions."""

    def __init__(self, engines: list[Backend], model: Model, args: argparse.Namespace) -> None:
        super().__init__(model.spec, args)
        self.engines, self.predictions = engines, args.predictions
        self.pessimism, self.jerk = args.pessimism, args.jerk
        bounds = model.spec.environment
        self.range = np.array(bounds.action_high) - np.array(bounds.action_low)

    def plan(self, request: PlanRequest, slots: np.ndarray) -> np.ndarray:
        actions = self.engines[0].sample(request)
        found = []
        for index in range(self.predictions):
            noise = dataclasses.replace(request, seed=request.seed + 1_000_003 * index)
            states = self.engines[0].predict(noise, actions)
            found += [engine.score(request, states, actions)[0] for engine in self.engines]
        scores = np.mean(found, axis=0) - self.pessimism * np.std(found, axis=0)
        if self.jerk:
            jump = (actions[:, :, 0] - self.last_actions(slots)[:, None]) / self.range
            jump = np.nan_to_num(jump)
            scores = scores - self.jerk * scores.std(1, keepdims=True) * (jump**2).mean(-1)
        result = PlanResult(scores.argmax(1), actions, states, scores, np.zeros_like(scores))
        return elite_mean(result.actions, elites_of(result, self.elites))


def main() -> None:
    parser = arm_parser(__doc__)
    parser.add_argument("--pessimism", type=float, default=0.0)
    parser.add_argument("--predictions", type=int, default=1)
    parser.add_argument("--jerk", type=float, default=0.0)
    args = parser.parse_args()
    model = plannable(args.model)
    engines = [
        registry.create("cpu", member(model, index), dtype=args.dtype, threads=1)
        for index in range(model.spec.stages["objective"].members)
    ]
    report(SelectionPolicy(engines, model, args), model, args)


if __name__ == "__main__":
    main()
