"""`dmpc-fast demo --compare`: the same episodes by search, without it, by the policy, by a teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from dmpc_fast.evaluation.drive import Drive

HEADINGS = ("controller", "evaluations", "score", "fell", "p50 ms", "p99 ms", "missed")


class Controller(NamedTuple):
    """A way to drive. name: for readers. path: the model; options: of `Planner.load`."""

    name: str
    path: Path
    options: dict[str, Any]


def controllers(
    path: Path, teacher: Path | None, samples: int | None, backend: str
) -> list[Controller]:
    """The ways that a model offers to drive, its teacher's first."""
    from dmpc_fast.model_file import load_model

    ways = []
    if teacher is not None:
        ways.append(Controller("teacher", teacher, {"num_samples": samples}))
    ways += [
        Controller("planner", path, {"num_samples": samples}),
        Controller("proposal alone", path, {"num_samples": 1}),
    ]
    if load_model(path).spec.policy is not None:
        ways.append(Controller("policy", path, {"num_samples": 1, "mode": "policy"}))
    return [way._replace(options={**way.options, "backend": backend}) for way in ways]


def table(ways: Sequence[Controller], run: Callable[[Any], Sequence[Drive]]) -> Iterator[str]:
    """One line per controller as its episodes end. run: drives with a planner."""
    from dmpc_fast.planning.planner import Planner

    yield line(HEADINGS)
    for way in ways:
        planner = Planner.load(way.path, **way.options)
        yield line(row(way, planner, run(planner)))


def row(way: Controller, planner: Any, drives: Sequence[Drive]) -> tuple[str, ...]:
    """What `HEADINGS` name, over all episodes; the return where a task has no score."""
    from dmpc_fast.evaluation.scores import normalized_score, score_range

    spec = planner.spec
    returns = np.array([drive.episode_return for drive in drives])
    references = score_range(spec.environment.id)
    scores = returns if references is None else normalized_score(returns, references)
    plans = 1e3 * np.concatenate([drive.plan_s for drive in drives])
    p50, p99 = np.quantile(plans, [0.5, 0.99])
    if planner.mode == "policy":
        name, evaluations = way.name, "-"
    else:
        name = f"{way.name}, N = {planner.num_samples}"
        proposal, dynamics = (spec.stages[stage].sampler for stage in ("proposal", "dynamics"))
        evaluations = f"{proposal.steps} + {dynamics.steps}"
    steps = sum(drive.length for drive in drives)
    missed = sum(drive.missed for drive in drives)
    return (
        name,
        evaluations,
        f"{np.mean(scores):.1f}",
        f"{sum(drive.terminated for drive in drives)} of {len(drives)}",
        f"{p50:.2f}",
        f"{p99:.2f}",
        f"{100 * missed / steps:.1f} %",
    )


def line(cells: Sequence[str]) -> str:
    """Cells in columns."""
    return f"{cells[0]:<24}" + "".join(f"{cell:>13}" for cell in cells[1:])
