"""Iterated sample-score-rank: re-noise the best candidates a little, denoise, predict and rank again.

    python -m benchmarks.iterated_ssr runs/hopper-renoise --env Hopper-v5 --rounds 1 --angle 0.628 \
      --json iterated.json

The planner's `IteratedSearch`, also with new rewards and with few children of few parents, which is late
pruning; episodes, seeds and report are those of `dmpc-fast evaluate`. Round 0 draws N candidates; each
further round re-noises the best `--parents` of all so far to `--angle`, `--children` of them in all, and
ranks everything together. `--warm` starts half of round 0 from the plan before, shifted
and re-noised to that angle. A student must have learned to jump from there (`distill --loss
proposal.pure_noise=0.5`, whose jumps start at the teacher's angles). `--target NAME` ranks by a new
reward of `dmpc-fast experiment novel-reward` and reports what it reached. The report's `plan_cpu_ms` is
the processor time of a plan for one robot. For models without history.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time

import numpy as np

from benchmarks.arm_policy import ArmPolicy, arm_parser, plannable, report
from dmpc_fast.backends import registry
from dmpc_fast.backends.base import Backend, CandidateGroup, PlanRequest
from dmpc_fast.evaluation.experiments.novel_reward import TARGETS, Target, reached
from dmpc_fast.model_file import Model
from dmpc_fast.planning.elites import elite_mean, elites_of
from dmpc_fast.planning.iterated_search import IteratedSearch
from dmpc_fast.planning.renoising import check_renoising
from dmpc_fast.planning.warm_start import WarmStart, shifted

EPISODE_STEPS = 1000
#: Plans that are timed, after some that are not.
TIMED, UNTIMED = 40, 5


class IteratedPolicy(ArmPolicy):
    """Every plan in rounds."""

    def __init__(self, engine: Backend, model: Model, args: argparse.Namespace) -> None:
        super().__init__(model.spec, args)
        self.engine, self.further = engine, None
        if args.rounds:
            self.further = IteratedSearch(args.rounds, args.angle, args.parents, args.children)
            self.further.check(model.spec, self.count)
        own = model.spec.stages["proposal"].sampler
        assert own is not None  # the spec gives the proposal one
        self.own, self.warm = own, WarmStart(args.angle) if args.warm else None
        if args.warm:
            check_renoising(model.spec, "--warm")
        target = target_named(args.target)
        self.objective = None
        if target is not None:
            self.objective = target.guided if args.guided else target.terms

    def plan(self, request: PlanRequest, slots: np.ndarray) -> np.ndarray:
        return self.search(self._first_round(request, slots))

    def search(self, request: PlanRequest) -> np.ndarray:
        """Actions (B, F, A) of a plan that begins with `request`."""
        if self.further is None:
            result = self.engine.plan(request)
        else:
            first = self.engine.plan(request)
            (result,), _ = self.further.run(self.engine.plan, [request], [first], self.spec)
        return elite_mean(result.actions, elites_of(result, self.elites))

    def _first_round(self, request: PlanRequest, slots: np.ndarray) -> PlanRequest:
        request = dataclasses.replace(request, objective=self.objective)
        known = [slot for slot in slots if int(slot) in self.plans]
        if self.warm is None or len(known) < len(slots):
            # Robots begin together; where one has no plan yet, nobody starts from one.
            return request
        before = np.stack([self.plans[int(slot)] for slot in slots]).astype(np.float32)
        moved = shifted(before, np.full(len(slots), self.chunk))
        groups = self.warm.groups(request.groups[0], self.own, moved)
        return dataclasses.replace(request, groups=groups)


def target_named(name: str | None) -> Target | None:
    """The new reward of that name; raises ValueError where there is none."""
    if name is None:
        return None
    for target in TARGETS:
        if target.name == name:
            return target
    raise ValueError(f"--target must be one of {[t.name for t in TARGETS]}, got {name!r}")


def plan_cpu_ms(policy: IteratedPolicy, model: Model) -> float:
    """Median processor time of a plan for one robot in the data's mean state, in ms."""
    spec, times = model.spec, []
    request = PlanRequest(
        states=model.normalizer.state.mean[None, None].astype(np.float32),
        actions=np.zeros((1, 0, spec.action_size), np.float32),
        mask=np.zeros((1, 0), np.float32),
        context=np.zeros((1, 0), np.float32),
        seed=7,
        robots=np.zeros(1, np.int64),
        plan_index=np.zeros(1, np.int64),
        groups=(CandidateGroup(policy.count, None, None),),
        objective=policy.objective,
    )
    for _ in range(UNTIMED + TIMED):
        begin = time.process_time_ns()
        policy.search(request)
        times.append(time.process_time_ns() - begin)
    return float(np.median(times[UNTIMED:])) / 1e6


def main() -> None:
    parser = arm_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="after the first one")
    parser.add_argument("--angle", type=float, default=0.4, help="to which parents are re-noised")
    parser.add_argument("--parents", type=int, default=8)
    parser.add_argument("--children", type=int, help="of a further round (default: candidates)")
    parser.add_argument("--warm", action="store_true", help="begin with the plan before")
    parser.add_argument("--target", help="a new reward in place of the learned objective")
    parser.add_argument("--guided", action="store_true", help="with the guide of the guided arms")
    args = parser.parse_args()
    model, target = plannable(args.model), target_named(args.target)
    engine = registry.create("cpu", model, dtype=args.dtype, threads=1)
    policy = IteratedPolicy(engine, model, args)
    report(policy, model, args)
    found = {"plan_cpu_ms": plan_cpu_ms(policy, model)}
    if target is not None:
        states = [np.stack(policy.seen[episode])[1:] for episode in sorted(policy.seen)]
        found |= reached(target.reward, states, EPISODE_STEPS)
    print(found)
    written = {**json.loads(args.json.read_text("utf-8")), "search": found}
    args.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
