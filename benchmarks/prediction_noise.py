"""How far predictions of the same actions from different noise differ, beside what candidates differ by.

    python -m benchmarks.prediction_noise MODEL --env ENV

At the state that an episode of `--seed` begins with: standard deviations over `--predictions` noises and
over 64 candidates, of predicted states (mean over steps and dimensions) and of scores.
"""

from __future__ import annotations

import argparse
import dataclasses

import gymnasium
import numpy as np

from benchmarks.arm_policy import plannable
from dmpc_fast.backends import registry
from dmpc_fast.backends.base import CandidateGroup, PlanRequest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--env", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--predictions", type=int, default=4)
    args = parser.parse_args()
    model = plannable(args.model)
    engine = registry.create("cpu", model, dtype="float32", threads=1)
    environment = gymnasium.make(args.env)
    observation, _ = environment.reset(seed=args.seed)
    environment.close()
    request = PlanRequest(
        states=np.asarray(observation, np.float32)[None, None],
        actions=np.zeros((1, 0, model.spec.action_size), np.float32),
        mask=np.zeros((1, 0), np.float32),
        context=np.zeros((1, 0), np.float32),
        seed=args.seed,
        robots=np.zeros(1, np.int64),
        plan_index=np.zeros(1, np.int64),
        groups=(CandidateGroup(64),),
    )
    actions = engine.sample(request)
    states, scores = [], []
    for index in range(args.predictions):
        noise = dataclasses.replace(request, seed=request.seed + 1_000_003 * index)
        states.append(engine.predict(noise, actions))
        scores.append(engine.score(noise, states[-1], actions)[0])
    for name, found in (("states", np.array(states)), ("scores", np.array(scores))):
        ratio = found.std(0).mean() / found.std(2).mean()
        print(f"{name}: over noise / over candidates = {ratio:.2%}")


if __name__ == "__main__":
    main()
