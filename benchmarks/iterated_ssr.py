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
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.policy_episodes import run_episodes
from dmpc_fast import objectives
from dmpc_fast.assets import resolve
from dmpc_fast.backends import registry
from dmpc_fast.backends.base import Backend, CandidateGroup, PlanRequest, PlanResult
from dmpc_fast.evaluation.evaluate import result_of
from dmpc_fast.evaluation.policies import PlanTimes
from dmpc_fast.model_file import load_model
from dmpc_fast.planning.elites import elite_mean, elites_of
from dmpc_fast.spec import ModelSpec, SamplerSpec


class IteratedPolicy:
    """Plans for all slots at once; every slot runs a chunk of its plan before the next."""

    def __init__(self, engine: Backend, spec: ModelSpec, args: argparse.Namespace) -> None:
        self.engine, self.spec, self.args = engine, spec, args
        recommended = spec.recommended
        self.count = args.num_samples or recommended.get("num_samples", 64)
        self.chunk = args.action_chunk or recommended.get("action_chunk", 1)
        self.elites = args.num_elites or recommended.get("num_elites", 1)
        own = spec.stages["proposal"].sampler
        assert own is not None  # the spec gives the proposal one
        below = tuple(angle for angle in own.angles if angle < args.angle)
        self.children = SamplerSpec(own.rule, (args.angle, *below))
        self.times = PlanTimes()
        self.episode: dict[int, int] = {}
        self.step: dict[int, int] = {}
        self.plans: dict[int, np.ndarray] = {}

    def start(self, slot: int, episode: int) -> None:
        self.episode[slot], self.step[slot] = episode, 0

    def act(self, slots: np.ndarray, observations: np.ndarray) -> np.ndarray:
        due = [i for i, slot in enumerate(slots) if self.step[int(slot)] % self.chunk == 0]
        if due:
            begin = time.perf_counter()
            chosen = self._plan(slots[due], observations[due])
            self.times.seconds.append(time.perf_counter() - begin)
            self.times.robots.append(len(due))
            self.plans.update(zip((int(slot) for slot in slots[due]), chosen, strict=True))
        actions = [self.plans[int(slot)][self.step[int(slot)] % self.chunk] for slot in slots]
        for slot in slots:
            self.step[int(slot)] += 1
        return np.stack(actions)

    def _plan(self, slots: np.ndarray, observations: np.ndarray) -> np.ndarray:
        robots, past = len(slots), self.spec.history - 1
        request = PlanRequest(
            states=observations[:, None].astype(np.float32),
            actions=np.zeros((robots, past, self.spec.action_size), np.float32),
            mask=np.zeros((robots, past), np.float32),
            context=np.zeros((robots, self.spec.context), np.float32),
            seed=self.args.seed,
            robots=np.array([self.episode[int(slot)] for slot in slots]),
            plan_index=np.array([self.step[int(slot)] // self.chunk for slot in slots]),
            groups=(CandidateGroup(self.count, None, None),),
        )
        result = self.engine.plan(request)
        for number in range(self.args.rounds):
            result = _joined(result, self.engine.plan(self._next_round(request, result, number)))
        return elite_mean(result.actions, elites_of(result, self.elites))

    def _next_round(self, request: PlanRequest, found: PlanResult, number: int) -> PlanRequest:
        parents = np.argsort(-found.scores, axis=1)[:, : self.args.parents]
        best = np.take_along_axis(found.actions, parents[:, :, None, None], axis=1)
        start = np.repeat(best, self.count // self.args.parents, axis=1).astype(np.float32)
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--env", required=True)
    parser.add_argument("--rounds", type=int, default=1, help="after the first one")
    parser.add_argument("--angle", type=float, default=0.4, help="to which parents are re-noised")
    parser.add_argument("--parents", type=int, default=8)
    parser.add_argument("--num-samples", type=int, help="candidates of each round")
    parser.add_argument("--num-elites", type=int)
    parser.add_argument("--action-chunk", type=int)
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()

    model = load_model(resolve(args.model))
    if model.spec.history != 1 or model.spec.context:
        raise ValueError(f"{args.model} has history or context, which this arm does not keep")
    engine = registry.create("cpu", model, dtype=args.dtype, threads=1)
    policy = IteratedPolicy(engine, model.spec, args)
    found = run_episodes(
        policy,
        args.env,
        episodes=args.episodes,
        batch=args.episodes,
        seed=args.seed,
        keys=model.spec.environment.observation_keys,
    )
    settings: dict[str, Any] = {
        **{name: value for name, value in vars(args).items() if name != "json"},
        "environment": args.env,
        "model_sha256": model.sha256,
    }
    result = result_of(found, policy.times, settings)
    args.json.write_text(result.to_json() + "\n", encoding="utf-8")
    score = result.summary()["score"]
    print(f"{args.model}: {score['mean']:.2f} ± {score['standard_error']:.2f}")


if __name__ == "__main__":
    main()
