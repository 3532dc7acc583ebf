"""How far predicted states are from true ones, in units of the data's standard deviation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dmpc_fast.evaluation.probe import Probe

QUARTILES = (0.25, 0.5, 0.75)


def dynamics_errors(probes: Sequence[Probe], scale: np.ndarray, samples: int) -> dict[str, Any]:
    """Errors of the dynamics model by step, each a list of (lower quartile, median, upper) over starts.

    scale (S,): standard deviations. samples: the planner's N. All are root mean squares over
    dimensions; steps after the true end of an episode do not count. executed: of the candidate
    that the planner chose. unchanged: the error of predicting that nothing changes, for it.
    candidates: of all. spread: how far the true states of candidates are from their mean. difference:
    the error of that distance, which is what can reverse a ranking. by_dimension: absolute error of
    the executed candidate at its last step, median over starts.
    """
    executed, unchanged, last = [], [], []
    candidates, spread, difference = [], [], []
    for probe in probes:
        best = int(probe.by_predicted.total[:samples].argmax())
        error = (probe.predicted - probe.true) / scale
        error[probe.over] = np.nan
        true = probe.true / scale
        true[probe.over] = np.nan
        executed.append(_rms(error[best]))
        unchanged.append(_rms(true[best] - probe.present / scale))
        last.append(np.abs(error[best, ~probe.over[best]][-1]))
        candidates.append(_rms(error, over_candidates=True))
        spread.append(_rms(_centred(true), over_candidates=True))
        difference.append(_rms(_centred(error), over_candidates=True))
    return {
        "executed": quartiles(executed),
        "unchanged": quartiles(unchanged),
        "candidates": quartiles(candidates),
        "spread": quartiles(spread),
        "difference": quartiles(difference),
        "by_dimension": np.median(last, axis=0).tolist(),
    }


def unresolved_share(probe: Probe, scale: np.ndarray) -> float:
    """Error of the candidates' differences over these differences, at one start, over all steps.

    At 0 the dynamics model tells candidates apart, at 1 it might as well guess. NaN where they do
    not differ.
    """
    error, true = (probe.predicted - probe.true) / scale, probe.true / scale
    error[probe.over], true[probe.over] = np.nan, np.nan
    wrong, size = (np.nansum(np.square(_centred(values))) for values in (error, true))
    return math.sqrt(wrong / size) if size > 0 else math.nan


def quartiles(rows: Sequence[np.ndarray]) -> list[list[float] | None]:
    """Quartiles of each column of (starts, F), without what is not a number; None where all is."""
    columns = np.array(rows).T
    known = [column[~np.isnan(column)] for column in columns]
    return [np.quantile(c, QUARTILES).tolist() if c.size else None for c in known]


def _rms(values: np.ndarray, *, over_candidates: bool = False) -> np.ndarray:
    """(F,) of (F, S) or, over candidates, of (M, F, S); NaN where nothing is known."""
    squares = np.square(values).mean(-1)
    if over_candidates:
        squares = _mean_of_known(squares)
    return np.sqrt(squares)


def _centred(values: np.ndarray) -> np.ndarray:
    """(M, F, S) less the mean over candidates."""
    return values - _mean_of_known(values)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """Mean over axis 0 of what is a number."""
    known = ~np.isnan(values)
    count = known.sum(0)
    total = np.where(known, values, 0.0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
