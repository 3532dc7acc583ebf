"""Iterated sample-score-rank: candidates near the best ones of a plan, ranked with them.

Sample-score-rank (D-MPC, Zhou et al. 2024) draws all its candidates at once. Where the proposal takes
one evaluation, what is saved can be spent on rounds: the best candidates are re-noised a little and
denoised again, which leaves them plausible, and everything is ranked together.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dmpc_fast import objectives
from dmpc_fast.backends.base import CandidateGroup, Level, PlanRequest, PlanResult
from dmpc_fast.planning import inputs
from dmpc_fast.planning.renoising import check_renoising
from dmpc_fast.spec import ModelSpec, SamplerSpec

MAX_ROUNDS = 64
#: Added to the random stream's key with every round: 2^64 over the golden ratio.
KEY_STEP = 0x9E3779B97F4A7C15
#: A round may take so many times as long as its candidates did in the round before.
MARGIN = 1.25


@dataclass(frozen=True)
class IteratedSearch:
    """How a plan goes on after its first N candidates.

    rounds: further ones. angle: noise angle in radians, in (0, pi/2), to which parents are re-noised;
    small keeps them. parents: how many of the best so far have children. children: of a round, shared
    out evenly (rounded down) among the parents; None for as many as the first candidates.

    Under a deadline a further round begins where the one before left nothing out and it should be
    ready in time; it is made as a whole or not at all.

    A teacher's proposal knows every angle. A student's must have learned to jump from below pure noise
    (``dmpc-fast distill --loss proposal.pure_noise=0.5``), and knows its teacher's angles best.
    """

    rounds: int = 1
    angle: float = 0.62832
    parents: int = 4
    children: int | None = None

    def __post_init__(self) -> None:
        inputs.integer("IteratedSearch.rounds", self.rounds, 1, MAX_ROUNDS)
        inputs.integer("IteratedSearch.parents", self.parents, 1, 1 << 20)
        if not 0.0 < self.angle < np.pi / 2:
            raise ValueError(f"IteratedSearch.angle must lie in (0, pi/2), got {self.angle!r}")
        if self.children is not None:
            inputs.integer("IteratedSearch.children", self.children, self.parents, 1 << 20)

    def check(self, spec: ModelSpec, num_samples: int) -> None:
        """Raise ValueError unless a planner of `num_samples` of this model can search so."""
        if self.parents > num_samples:
            raise ValueError(
                f"IteratedSearch.parents must be from 1 to the {num_samples} candidates, got "
                f"{self.parents}"
            )
        check_renoising(spec, "IteratedSearch")

    def run(
        self,
        plan: Callable[[PlanRequest], PlanResult],
        requests: Sequence[PlanRequest],
        first: Sequence[PlanResult],
        spec: ModelSpec,
        *,
        rounds: int | None = None,
        began: float = 0.0,
        due_time: float | None = None,
    ) -> tuple[list[PlanResult], int]:
        """For each request all candidates of all its rounds, the first round's first, in one result;
        and the number of further rounds, which is the same for all.

        plan: what makes and ranks the candidates of a request. first: what it made of `requests`, from
        `began` on. rounds: to make, fewer than the search's own where a deadline had left some out.
        due_time: when all should be ready; both times as `time.perf_counter` counts.
        """
        found, made = list(first), 0
        levels = [
            result.level or Level.of_all(spec, request)
            for result, request in zip(first, requests, strict=True)
        ]
        if not all(level.complete for level in levels):
            return found, 0
        before, own = requests[0].num_samples, self._share(requests[0]) * self.parents
        for number in range(1, (self.rounds if rounds is None else rounds) + 1):
            now = time.perf_counter()
            if due_time is not None and now + MARGIN * (now - began) * own / before > due_time:
                break
            children = [
                child
                for request, result in zip(requests, found, strict=True)
                if (child := self._children(request, result, spec, number)) is not None
            ]
            if len(children) < len(requests):
                break
            began, before, made = now, own, number
            found = [
                _joined(result, plan(child)) for result, child in zip(found, children, strict=True)
            ]
        count, complete = requests[0].num_samples + made * own, made == self.rounds
        return [
            dataclasses.replace(
                result,
                level=dataclasses.replace(level, candidates=count, full=count, complete=complete),
            )
            for result, level in zip(found, levels, strict=True)
        ], made

    def _share(self, request: PlanRequest) -> int:
        """Children of one parent."""
        return (self.children or request.num_samples) // self.parents

    def _children(
        self, request: PlanRequest, found: PlanResult, spec: ModelSpec, number: int
    ) -> PlanRequest | None:
        """The request of a further round; None where there is no candidate to start from."""
        order = np.lexsort((-found.scores, found.violations), axis=-1)[:, : self.parents]
        best = np.take_along_axis(found.actions, order[:, :, None, None], axis=1)
        if not np.isfinite(best).all():
            return None
        first = request.groups[0]
        each = self._share(request)
        own = first.proposal or spec.stages["proposal"].sampler
        assert own is not None  # the spec gives the proposal one
        below = tuple(angle for angle in own.angles if angle < self.angle)
        group = CandidateGroup(
            each * self.parents,
            SamplerSpec(own.rule, (self.angle, *below)),
            first.dynamics,
            np.repeat(best, each, axis=1).astype(np.float32, copy=False),
        )
        # Another key: children have their parents' numbers, but must not have their noise.
        seed = (request.seed + number * KEY_STEP) & ((1 << 64) - 1)
        return dataclasses.replace(request, seed=seed, groups=(group,))


def _joined(first: PlanResult, second: PlanResult) -> PlanResult:
    actions, states, scores, violations = (
        np.concatenate([getattr(first, name), getattr(second, name)], axis=1)
        for name in ("actions", "states", "scores", "violations")
    )
    count = first.scores.shape[1]
    # Each half's best is exact, ties and all; between the two the score decides, the first of equals.
    rows = np.arange(len(scores))
    places = np.stack([first.best, count + second.best], axis=1)
    top, least = (np.take_along_axis(part, places, axis=1) for part in (scores, violations))
    better = objectives.best_candidate(top, least, np.zeros_like(top))
    return PlanResult(places[rows, better], actions, states, scores, violations)
