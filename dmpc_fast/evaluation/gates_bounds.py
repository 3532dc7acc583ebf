"""What a few-step student must keep of its teacher, in numbers, and whether it does."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from dmpc_fast.evaluation.gates_measures import Figure

#: Samples of each action dimension from which a variance ratio counts.
MIN_VARIANCE_SAMPLES = 2000


class Bound(NamedTuple):
    """low <= value <= high, None where there is none. target: whether it is one of the project's
    stated targets; the others are this file's own choice, with its reason in `meaning`."""

    low: float | None
    high: float | None
    target: bool
    meaning: str


BOUNDS = {
    "proposal_paired_noise": Bound(
        None,
        math.sqrt(0.5),
        False,
        "distance of proposals from the same noise, over the teacher's from other noise; a student "
        "that gives the mean whatever the noise has 0.71",
    ),
    "dynamics_paired_noise": Bound(
        None,
        1.0,
        False,
        "distance of predictions from the same noise, over the teacher's from other noise",
    ),
    "variance_ratio": Bound(0.9, 1.1, True, "variance of proposed actions over the teacher's"),
    "best_of_n_proposal": Bound(
        0.9, 1.1, True, "slope of best-of-N of J over the teacher's, proposals by one judge"
    ),
    "best_of_n_plan": Bound(
        0.9, 1.1, True, "slope of best-of-N of J over the teacher's, each by its own dynamics"
    ),
    "rank_agreement": Bound(
        0.95, None, True, "rank correlation of J with the teacher's, over the teacher's with itself"
    ),
    "energy_distance": Bound(
        None, 2.0, False, "energy distance of plans to the teacher's, over the teacher's to itself"
    ),
    "mmd": Bound(None, 2.0, False, "squared MMD of plans to the teacher's, over that to itself"),
    "prediction_error": Bound(
        None, 1.1, False, "open-loop error of predicted states against the data, over the teacher's"
    ),
}


@dataclass(frozen=True)
class Gate:
    """One figure and its bound.

    name: that of the bound, with the action's dimension in brackets where there are several.
    """

    name: str
    figure: Figure
    bound: Bound

    @classmethod
    def of(cls, name: str, figure: Figure) -> Gate:
        """The gate `name`, whose bound is that of the name before any bracket."""
        return cls(name, figure, BOUNDS[name.partition("[")[0]])

    @property
    def passed(self) -> bool:
        """Whether the figure itself, not its interval, keeps to the bound."""
        value, (low, high, _, _) = self.figure.value.estimate, self.bound
        return (low is None or value >= low) and (high is None or value <= high)

    def to_json(self) -> dict[str, Any]:
        value = self.figure.value
        return {
            "name": self.name,
            "value": value.estimate,
            "interval_90": [value.low, value.high],
            "split": self.figure.split,
            "bound": [self.bound.low, self.bound.high],
            "target": self.bound.target,
            "passed": self.passed,
            "meaning": self.bound.meaning,
        }
