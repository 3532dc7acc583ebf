"""Whether one way to plan is no worse than another: a rule over several data sets.

Both are evaluated on the same initial states (`dmpc-fast evaluate`, same seeds), so that episodes
pair. The rule of non-inferiority, over the mean of the sets' scores:

- the bootstrap 90 % interval of the difference lies above -4, and the difference itself above -1;
- no set is significantly below at 1 %, by a one-sided randomization test with Holm's correction;
- every set has at least 50 pairs of episodes.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dmpc_fast.statistics import (
    Interval,
    holm,
    mean_and_error,
    paired_bootstrap_interval,
    paired_randomization_p,
    stratified_bootstrap_interval,
)

#: Bounds of the rule, in points of the normalised score.
LOWEST_INTERVAL, LOWEST_MEAN = -4.0, -1.0
INTERVAL_LEVEL, SIGNIFICANCE, LEAST_EPISODES = 0.9, 0.01, 50
#: Settings in which the two sides must agree, for they decide what an episode is.
SHARED_SETTINGS = ("environment", "modify", "max_steps")


class Key(NamedTuple):
    """What makes two evaluations of one set: the task and the data that the models learned from."""

    environment: str
    datasets: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(self.datasets) or self.environment


@dataclass(frozen=True)
class Evaluation:
    """One report of `dmpc-fast evaluate`: scores (E,) by environment seed (E,), and its settings."""

    path: Path
    key: Key
    scores: np.ndarray
    seeds: np.ndarray
    normalized: bool
    settings: dict[str, Any]


@dataclass(frozen=True)
class Comparison:
    """What `to_json` writes."""

    report: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether every criterion of the rule holds."""
        return bool(self.report["passed"])

    def to_json(self) -> str:
        return json.dumps(self.report, indent=1, allow_nan=False)

    def lines(self) -> Iterator[str]:
        """A table for a person to read."""
        yield (
            f"{'set':36} {'pairs':>5} {'against':>8} {'mean':>8} {'difference, 90 %':>24} "
            f"{'p (Holm)':>9}"
        )
        for row in self.report["sets"]:
            low, high = row["interval_90"]
            between = f"{row['difference']:.2f} ({low:.2f} to {high:.2f})"
            yield (
                f"{row['set']:36} {row['pairs']:5d} {row['against']:8.2f} {row['mean']:8.2f} "
                f"{between:>24} {row['p_holm']:9.4f}"
            )
        overall = self.report["overall"]
        low, high = overall["interval_90"]
        yield f"mean of the sets: {overall['difference']:.2f} ({low:.2f} to {high:.2f})"
        for name, held in self.report["criteria"].items():
            yield f"{'yes' if held else 'NO':>4}  {name}"
        yield f"not inferior: {'yes' if self.passed else 'NO'}"


def compare(candidates: Sequence[Path], against: Sequence[Path], *, seed: int = 0) -> Comparison:
    """Apply the rule to reports of `dmpc-fast evaluate`, one or more a set on either side.

    Files pair by environment and data sets; where a set has several (training seeds, say), they pair
    in the order given, and their episodes count together. seed: of the resampling. Raises ValueError
    for files that are no such reports or do not pair.
    """
    sides = [[read_evaluation(path) for path in side] for side in (candidates, against)]
    pairs = _paired(*sides)
    if len({evaluation.normalized for side in sides for evaluation in side}) > 1:
        raise ValueError("some evaluations have normalised scores and others returns alone")
    rows, differences = [], []
    for key, matched in pairs.items():
        ours, theirs = (np.concatenate(side) for side in zip(*map(_aligned, matched), strict=True))
        differences.append(ours - theirs)
        interval = paired_bootstrap_interval(theirs, ours, level=INTERVAL_LEVEL, seed=seed)
        rows.append(
            {
                "set": str(key),
                "environment": key.environment,
                "pairs": len(ours),
                "mean": mean_and_error(ours)._asdict()["mean"],
                "against": mean_and_error(theirs)._asdict()["mean"],
                "difference": interval.estimate,
                "interval_90": [interval.low, interval.high],
                "p_below": paired_randomization_p(ours - theirs, seed=seed),
                "files": [[str(a.path), str(b.path)] for a, b in matched],
            }
        )
    for row, p in zip(rows, holm(np.array([row["p_below"] for row in rows])), strict=True):
        row["p_holm"] = float(p)
    overall = stratified_bootstrap_interval(differences, level=INTERVAL_LEVEL, seed=seed)
    criteria = _criteria(rows, overall)
    return Comparison(
        {
            "passed": all(criteria.values()),
            "criteria": criteria,
            "overall": {
                "sets": len(rows),
                "difference": overall.estimate,
                "interval_90": [overall.low, overall.high],
            },
            "sets": rows,
        }
    )


def read_evaluation(path: Path) -> Evaluation:
    """A report of `dmpc-fast evaluate`; raises ValueError naming what is not as it writes it."""
    try:
        report = json.loads(Path(path).read_text(encoding="utf-8"))
        settings, episodes = report["settings"], report["episodes"]
        normalized = episodes["score"] is not None
        scores = np.array(episodes["score" if normalized else "return"], np.float64)
        seeds = np.array(episodes["seed"], np.int64)
        key = Key(str(settings["environment"]), tuple(settings["datasets"] or ()))
        missing = [name for name in SHARED_SETTINGS if name not in settings]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no report of dmpc-fast evaluate: {error!r}") from None
    if missing or scores.ndim != 1 or scores.shape != seeds.shape or not np.isfinite(scores).all():
        raise ValueError(
            f"{path} is no report of dmpc-fast evaluate: settings lack {missing}, scores of shape "
            f"{scores.shape} and seeds of shape {seeds.shape}"
        )
    if len(np.unique(seeds)) < len(seeds):
        raise ValueError(f"{path} holds an environment seed twice: its episodes do not pair")
    return Evaluation(Path(path), key, scores, seeds, normalized, settings)


def _paired(
    candidates: list[Evaluation], against: list[Evaluation]
) -> dict[Key, list[tuple[Evaluation, Evaluation]]]:
    sides: tuple[dict[Key, list[Evaluation]], ...] = (defaultdict(list), defaultdict(list))
    for side, evaluations in zip(sides, (candidates, against), strict=True):
        for evaluation in evaluations:
            side[evaluation.key].append(evaluation)
    if not candidates:
        raise ValueError("no evaluation was given")
    for key in {**sides[0], **sides[1]}:
        counts = [len(side.get(key, ())) for side in sides]
        if counts[0] != counts[1]:
            raise ValueError(
                f"set {key} has {counts[0]} evaluations on one side and {counts[1]} on the other"
            )
    return {key: list(zip(sides[0][key], sides[1][key], strict=True)) for key in sides[0]}


def _aligned(pair: tuple[Evaluation, Evaluation]) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the episodes that both sides ran, in the order of their seeds."""
    ours, theirs = pair
    for name in SHARED_SETTINGS:
        own, other = ours.settings[name], theirs.settings[name]
        if own != other:
            raise ValueError(f"{name} is {own!r} in {ours.path} but {other!r} in {theirs.path}")
    seeds, own_rows, other_rows = np.intersect1d(ours.seeds, theirs.seeds, return_indices=True)
    if len(seeds) < max(len(ours.seeds), len(theirs.seeds)):
        raise ValueError(
            f"{ours.path} and {theirs.path} must be of the same environment seeds, but share only "
            f"{len(seeds)} of {max(len(ours.seeds), len(theirs.seeds))}"
        )
    return ours.scores[own_rows], theirs.scores[other_rows]


def _criteria(rows: list[dict[str, Any]], overall: Interval) -> dict[str, bool]:
    least = min(row["p_holm"] for row in rows)
    return {
        f"90 % interval of the mean difference above {LOWEST_INTERVAL:g}": (
            not math.isnan(overall.low) and overall.low > LOWEST_INTERVAL
        ),
        f"mean difference above {LOWEST_MEAN:g}": overall.estimate > LOWEST_MEAN,
        f"no set significantly below at {SIGNIFICANCE:.0%} (Holm)": least >= SIGNIFICANCE,
        f"at least {LEAST_EPISODES} pairs of episodes a set": (
            min(row["pairs"] for row in rows) >= LEAST_EPISODES
        ),
    }
