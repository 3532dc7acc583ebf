"""A plan: the candidates, how they rank, and all that is needed to make it again."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dmpc_fast import objectives
from dmpc_fast.backends.base import CandidateGroup, Level, PlanRequest
from dmpc_fast.planning import inputs
from dmpc_fast.planning.iterated_search import IteratedSearch
from dmpc_fast.spec import MAX_ELITES, ModelSpec, SamplerSpec

RECORD_VERSION = 2


@dataclass(frozen=True)
class Origin:
    """Where a plan comes from: model (sha256 of its file), backend, dtype, whether it is of a
    planner without `num_robots`, the name of a callable objective, how many candidates' mean is run,
    how the search went on and in how many rounds, and the requests made, each with the rows of the
    plan that it filled."""

    model: str
    backend: str
    dtype: str
    single: bool
    custom_objective: str | None
    num_elites: int
    search: IteratedSearch | None
    rounds: int | None
    requests: tuple[tuple[np.ndarray, PlanRequest], ...]


@dataclass(frozen=True)
class Plan:
    """N candidate trajectories and what is run of them, environment units, float32.

    action (A,): the first action to run. best: index of the best candidate. actions (N, F, A) and
    states (N, F, S): actions[k] leads to states[k]. scores (N,), higher is better. violations (N,),
    0 where every constraint holds. chosen_actions (F, A) and chosen_states (F, S): the trajectory
    that is run, of the best candidate or the mean of the elites'. With `num_robots` every array has
    that leading dimension. With an `IteratedSearch` N counts the candidates of all its rounds, the first
    round's first; rounds that a deadline left out have none. level: how far the plan got; candidates
    that a deadline left out of the first round have NaN trajectories, score -infinity and violation
    infinity.
    """

    action: np.ndarray
    best: int | np.ndarray
    actions: np.ndarray
    states: np.ndarray
    scores: np.ndarray
    violations: np.ndarray
    chosen_actions: np.ndarray
    chosen_states: np.ndarray
    level: Level
    origin: Origin = field(repr=False)

    def record(self) -> dict[str, Any]:
        """JSON-able data from which `Planner.replay` makes this plan again, cut where this one was."""
        origin = self.origin
        return {
            "version": RECORD_VERSION,
            "model": origin.model,
            "backend": origin.backend,
            "dtype": origin.dtype,
            "single": origin.single,
            "custom_objective": origin.custom_objective,
            "num_elites": origin.num_elites,
            "search": None if origin.search is None else dataclasses.asdict(origin.search),
            "rounds": origin.rounds,
            "requests": [
                {"rows": rows.tolist(), **_request_to_json(request)}
                for rows, request in origin.requests
            ],
        }


def requests_of(
    record: dict[str, Any], spec: ModelSpec, model: str, *, custom_objective: bool
) -> list[tuple[np.ndarray, PlanRequest]]:
    """The requests of a record with their rows.

    spec, model: of the planner, whose file has that sha256. custom_objective: whether a callable is
    at hand. Raises ValueError where `record` is no record, of another model, or ranked otherwise.
    """
    if not isinstance(record, dict) or record.get("version") != RECORD_VERSION:
        raise ValueError(f"expected a plan's record of version {RECORD_VERSION}, got {record!r}")
    if record.get("model") != model:
        raise ValueError(f"the record is of model {record.get('model')}, the planner has {model}")
    custom = record.get("custom_objective")
    if custom is not None and not custom_objective:
        raise ValueError(f"the record was ranked by {custom}: replay needs that very callable")
    if custom is None and custom_objective:
        raise ValueError("the record was ranked by its own terms: replay takes no objective")
    try:
        requests = [
            (np.asarray(data["rows"], np.int64), _request_from_json(data, spec))
            for data in record["requests"]
        ]
        rows = np.concatenate([rows for rows, _ in requests])
        if not np.array_equal(np.sort(rows), np.arange(len(rows))):
            raise ValueError(f"its rows are {rows.tolist()}")
        if any(len(rows) != len(request.states) for rows, request in requests):
            raise ValueError("its rows are not as many as its states")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"the record is not one of such a model: {error!r}") from None
    return requests


def recorded_elites(record: dict[str, Any]) -> int:
    """How many candidates' mean a record's plan ran. Raises ValueError where that is no such number."""
    return inputs.integer("the record's num_elites", record.get("num_elites"), 1, MAX_ELITES)


def recorded_search(record: dict[str, Any]) -> IteratedSearch | None:
    """How a record's plan went on after its first candidates. Raises ValueError for nonsense."""
    data = record.get("search")
    if data is None:
        return None
    names = {field.name for field in dataclasses.fields(IteratedSearch)}
    if not isinstance(data, dict) or set(data) != names:
        raise ValueError(
            f"the record's search must have the keys {sorted(names)}, got {data!r:.200}"
        )
    try:
        return IteratedSearch(**data)
    except TypeError as error:
        raise ValueError(f"the record's search is none: {error}") from None


def recorded_rounds(record: dict[str, Any], search: IteratedSearch | None) -> int | None:
    """How many rounds of its search a record's plan had. Raises ValueError for nonsense."""
    made = record.get("rounds")
    if made is None or search is None:
        return None
    return inputs.integer("the record's rounds", made, 0, search.rounds)


_FLOATS = ("states", "actions", "mask", "context")
_INTEGERS = ("robots", "plan_index")


def _request_to_json(request: PlanRequest) -> dict[str, Any]:
    arrays = {name: getattr(request, name).tolist() for name in (*_FLOATS, *_INTEGERS)}
    return {
        **arrays,
        "seed": request.seed,
        "objective": objectives.to_json(request.objective),
        "levels": None if request.levels is None else request.levels.tolist(),
        "groups": [
            {
                "count": group.count,
                "proposal": _sampler_to_json(group.proposal),
                "dynamics": _sampler_to_json(group.dynamics),
                "start": None if group.start is None else group.start.tolist(),
            }
            for group in request.groups
        ],
    }


def _request_from_json(data: dict[str, Any], spec: ModelSpec) -> PlanRequest:
    past, count = spec.history - 1, len(data["states"])
    shapes = {
        "states": (spec.history, spec.state_size),
        "actions": (past, spec.action_size),
        "mask": (past,),
        "context": (spec.context,),
    }
    arrays: dict[str, Any] = {
        name: np.asarray(data[name], np.float32).reshape(count, *shapes[name]) for name in _FLOATS
    }
    groups = tuple(
        CandidateGroup(
            group["count"],
            _sampler_from_json(group["proposal"]),
            _sampler_from_json(group["dynamics"]),
            None if group["start"] is None else np.asarray(group["start"], np.float32),
        )
        for group in data["groups"]
    )
    arrays.update((name, np.asarray(data[name], np.int64)) for name in _INTEGERS)
    levels = data.get("levels")
    return PlanRequest(
        **arrays,
        seed=data["seed"],
        groups=groups,
        objective=objectives.from_json(data["objective"]),
        levels=None if levels is None else np.asarray(levels, np.int8),
    )


def _sampler_to_json(sampler: SamplerSpec | None) -> dict[str, Any] | None:
    if sampler is None:
        return None
    return {**dataclasses.asdict(sampler), "angles": list(sampler.angles)}


def _sampler_from_json(data: Any) -> SamplerSpec | None:
    return None if data is None else SamplerSpec.from_json(data)
