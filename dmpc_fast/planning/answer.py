"""From requests to a plan: rank the candidates, put several requests together, choose what to run."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence

import numpy as np

from dmpc_fast.backends.base import Level, PlanRequest, PlanResult
from dmpc_fast.planning import inputs
from dmpc_fast.planning.elites import elite_mean, elites_of, places_of_best, rows_at
from dmpc_fast.planning.iterated_search import IteratedSearch
from dmpc_fast.planning.live_model import LiveModel
from dmpc_fast.planning.plan import Origin, Plan
from dmpc_fast.planning.ranking import Objective, merge, objective_name, rank
from dmpc_fast.spec import ModelSpec

#: Rows of the robots that a request is for, and the request.
Part = tuple[np.ndarray, PlanRequest]


class Answerer:
    """Makes plans of requests, for one model's sizes and bounds.

    spec: the model. backend, dtype: names that plans record as their origin.
    """

    def __init__(self, spec: ModelSpec, backend: str, dtype: str) -> None:
        self._spec, self._backend, self._dtype = spec, backend, dtype
        environment = spec.environment
        self._low = _bounds(environment.action_low, -math.inf)
        self._high = _bounds(environment.action_high, math.inf)

    def answer(
        self,
        live: LiveModel,
        requests: Sequence[Part],
        objective: Objective | None,
        *,
        single: bool,
        num_elites: int,
        search: IteratedSearch | None = None,
        rounds: int | None = None,
        due_time: float | None = None,
    ) -> Plan:
        """Run the requests and put their results together in the order of their rows.

        search: how each goes on. rounds: of the search that are made, all of them where None.
        due_time: when the plan should be ready, as `time.perf_counter` counts. Raises RuntimeError
        where no candidate has finite actions and a score.
        """
        began = time.perf_counter()
        results, made = _run(live, requests, objective, due_time)
        if search is None:
            rounds = None
        else:
            results, rounds = search.run(
                lambda request: rank(live.engine, request, objective),
                [request for _, request in requests],
                results,
                self._spec,
                rounds=rounds,
                began=began,
                due_time=due_time,
            )
        plan = self.assemble(
            live,
            results,
            made,
            objective,
            single=single,
            num_elites=num_elites,
            search=search,
            rounds=rounds,
        )
        late = due_time is not None and time.perf_counter() > due_time
        if late:
            plan = dataclasses.replace(plan, level=dataclasses.replace(plan.level, missed=True))
        return plan

    def assemble(
        self,
        live: LiveModel,
        results: Sequence[PlanResult],
        made: tuple[Part, ...],
        objective: Objective | None,
        *,
        single: bool,
        num_elites: int,
        search: IteratedSearch | None = None,
        rounds: int | None = None,
        late: bool = False,
    ) -> Plan:
        """The plan that results amount to: what is run, and where it comes from.

        made: the requests, as they could be made again. late: whether it was ready too late.
        Otherwise as for `answer`.
        """
        merged = merge(results, [rows for rows, _ in made])
        actions, states = _float32(merged.actions), _float32(merged.states)
        scores, violations = _float32(merged.scores), _float32(merged.violations)
        places = places_of_best(merged)
        chosen, expected = rows_at(actions, places), rows_at(states, places)
        if not inputs.finite(chosen) or any(map(math.isnan, scores.take(places).tolist())):
            raise RuntimeError("the model gave no candidate with finite actions and a score")
        if num_elites > 1:
            elites = elites_of(merged, num_elites)
            chosen, expected = elite_mean(actions, elites), elite_mean(states, elites)
        # Backends keep to the bounds; what moves a robot does not rest on that.
        chosen = np.minimum(np.maximum(chosen, self._low), self._high)
        level = self._level(results, made, late=late)
        origin = Origin(
            live.sha256,
            self._backend,
            self._dtype,
            single,
            None if objective is None else objective_name(objective),
            num_elites,
            search,
            rounds,
            made,
        )
        if single:
            return Plan(
                chosen[0, 0], int(merged.best[0]), actions[0], states[0], scores[0], violations[0],
                chosen[0], expected[0], level, origin,
            )  # fmt: skip
        return Plan(
            chosen[:, 0], merged.best, actions, states, scores, violations, chosen, expected, level,
            origin,
        )  # fmt: skip

    def _level(
        self, results: Sequence[PlanResult], requests: Sequence[Part], *, late: bool
    ) -> Level:
        level = Level.least(
            [
                result.level or Level.of_all(self._spec, request)
                for result, (_, request) in zip(results, requests, strict=True)
            ]
        )
        return level if level.missed == late else dataclasses.replace(level, missed=late)


def _run(
    live: LiveModel, requests: Sequence[Part], objective: Objective | None, due_time: float | None
) -> tuple[list[PlanResult], tuple[Part, ...]]:
    """Every request's result, and the requests as they could be made again."""
    waiting, results, made = sum(len(rows) for rows, _ in requests), [], []
    for rows, request in requests:
        timed = request
        if due_time is not None:
            # Each request has its robots' share of the time that is left.
            left = max(0.0, due_time - time.perf_counter()) * len(rows) / waiting
            timed = dataclasses.replace(request, deadline_s=left)
        result = rank(live.engine, timed, objective)
        waiting -= len(rows)
        results.append(result)
        made.append((rows, as_made(request, result)))
    return results, tuple(made)


def as_made(request: PlanRequest, result: PlanResult) -> PlanRequest:
    """The request of this very result, whatever the machine's pace: a deadline's cuts as levels."""
    cut = result.level is not None and not result.level.complete
    levels = result.levels if cut else None
    return request if request.levels is levels else dataclasses.replace(request, levels=levels)


def _float32(array: np.ndarray) -> np.ndarray:
    """`array` in float32, itself if it is."""
    return array.astype(np.float32, copy=False)


def _bounds(bounds: tuple[float | None, ...], absent: float) -> np.ndarray:
    return np.array([absent if bound is None else bound for bound in bounds], np.float32)
