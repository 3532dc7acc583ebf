"""Choices of a candidate that distrust the model: pessimism, disagreement, consistency between plans,
candidates nearer to their mean.

    python -m benchmarks.selection_arms MODEL --env ENV --pessimism 1 --predictions 2 --json FILE

A candidate is scored by every network of the objective's ensemble on every one of `--predictions` state
trajectories, predicted from different noise, and ranked by the mean of these less `--pessimism` times
their standard deviation. `--jerk W` takes off W times the squared distance of its first action from the
action that ran last, in units of the candidates' spread of scores and of the actions' range.
`--spread T` brings the candidates to T times their distance from their mean before they are ranked.
`--others` are models of the same data whose dynamics and objectives judge the same candidates, an
ensemble of all that can be wrong.
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


def engines_of(model: Model, dtype: str) -> list[Backend]:
    """One for each network of the model's objective."""
    return [
        registry.create("cpu", member(model, index), dtype=dtype, threads=1)
        for index in range(model.spec.stages["objective"].members)
    ]


class SelectionPolicy(ArmPolicy):
    """Ranks by what several networks say of several predictions.

    judges: engines of each model, which predicts with its first and scores with all of them.
    """

    def __init__(self, judges: list[list[Backend]], model: Model, args: argparse.Namespace) -> None:
        super().__init__(model.spec, args)
        self.judges, self.predictions = judges, args.predictions
        self.pessimism, self.jerk, self.spread = args.pessimism, args.jerk, args.spread
        bounds = model.spec.environment
        self.range = np.array(bounds.action_high) - np.array(bounds.action_low)

    def plan(self, request: PlanRequest, slots: np.ndarray) -> np.ndarray:
        actions = self.judges[0][0].sample(request)
        if self.spread != 1:
            mean = actions.mean(1, keepdims=True)
            actions = mean + np.float32(self.spread) * (actions - mean)
        found = []
        for index in range(self.predictions):
            noise = dataclasses.replace(request, seed=request.seed + 1_000_003 * index)
            for engines in self.judges:
                states = engines[0].predict(noise, actions)
                found += [engine.score(request, states, actions)[0] for engine in engines]
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
    parser.add_argument("--others", nargs="+", default=[], metavar="MODEL")
    parser.add_argument("--spread", type=float, default=1.0)
    args = parser.parse_args()
    if not 0 <= args.spread <= 1:
        parser.error(f"--spread must lie between 0 and 1, got {args.spread}")
    model = plannable(args.model)
    judges = [engines_of(model, args.dtype)]
    judges += [engines_of(plannable(name), args.dtype) for name in args.others]
    report(SelectionPolicy(judges, model, args), model, args)


if __name__ == "__main__":
    main()
