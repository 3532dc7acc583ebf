"""Does the model still fit the robot? A sequential test of what a planner expected to see next.

An error is observed less expected state; it is whitened by the second moments that errors had on
the healthy robot at the same step of a plan, and its squared length is ranked among theirs. While
the model fits, the p-value of that rank is uniform, and -log p exponential with mean 1. The
monitor is the cumulative sum (Page 1954) of the log-likelihood ratio of an exponential of a larger
mean 1 / rate,

    level <- max(0, level + log(rate) + (1 - rate) (-log p)),

and raises its alarm where the level passes a threshold. Errors in a row are alike, so no formula
for independent ones gives the threshold: it is a conformal quantile of the highest levels of whole
healthy episodes that had no part in the moments and ranks. A new healthy episode like them then
raises an alarm with at most the probability that was asked for, whatever the errors' distribution.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast import strict_json

#: Mean of -log p under the alternative is 1 / rate.
DEFAULT_RATE = 0.5
#: Healthy errors that are kept of each step of a plan, as quantiles.
KEPT_QUANTILES = 1000
#: Share of each variance that is added to it, so that what never varies cannot divide by zero.
RIDGE = 1e-4
FORMAT = 1


@dataclass(frozen=True)
class EpisodeErrors:
    """One episode's T errors: which step of its plan each was (T,), and observed less expected
    state (T, S), environment units."""

    steps: np.ndarray
    errors: np.ndarray


@dataclass(frozen=True)
class Calibration:
    """What a healthy robot's errors are like, for each of K steps of a plan.

    whitening (K, S, S): errors times it have second moments near the identity. lengths (K, Q):
    their squared lengths, ascending. threshold: of the level. rate: of the alternative.
    false_alarms: probability of an alarm in a healthy episode that the threshold was made for.
    """

    whitening: np.ndarray
    lengths: np.ndarray
    threshold: float
    rate: float
    false_alarms: float

    def increments(self, steps: np.ndarray, errors: np.ndarray) -> np.ndarray:
        """What each error (T, S) at its plan's step (T,) adds to the level: (T,)."""
        steps, errors = np.asarray(steps), np.asarray(errors, np.float64)
        if errors.shape != (len(steps), self.whitening.shape[1]):
            wanted = (len(steps), self.whitening.shape[1])
            raise ValueError(f"errors must have shape {wanted}, got {errors.shape}")
        if len(steps) and not (steps.min() >= 0 and steps.max() < len(self.whitening)):
            raise ValueError(
                f"steps of plans must be 0 to {len(self.whitening) - 1}, as calibrated, got "
                f"{int(steps.min())} to {int(steps.max())}"
            )
        surprise = np.empty(len(steps))
        for step in np.unique(steps):
            rows = steps == step
            length = _squared_lengths(errors[rows], self.whitening[step])
            known = self.lengths[step]
            above = len(known) - np.searchsorted(known, length, side="left")
            surprise[rows] = -np.log((1 + above) / (1 + len(known)))
        increments: np.ndarray = math.log(self.rate) + (1 - self.rate) * surprise
        return increments

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file that `load` reads; it appears when it is whole."""
        path = Path(path)
        data = {
            "format": FORMAT,
            "whitening": self.whitening.tolist(),
            "lengths": self.lengths.tolist(),
            "threshold": self.threshold,
            "rate": self.rate,
            "false_alarms": self.false_alarms,
        }
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(data, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Read what `save` wrote. Raises ValueError for anything else."""
        data = strict_json.parse(Path(path).read_text(encoding="utf-8"))
        fields = {"format", "whitening", "lengths", "threshold", "rate", "false_alarms"}
        if not isinstance(data, dict) or set(data) != fields or data["format"] != FORMAT:
            raise ValueError(f"{path} is not a calibration of a misfit monitor, format {FORMAT}")
        try:
            whitening = np.array(data["whitening"], np.float64)
            lengths = np.array(data["lengths"], np.float64)
            numbers = [float(data[name]) for name in ("threshold", "rate", "false_alarms")]
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None
        square = whitening.ndim == 3 and whitening.shape[1] == whitening.shape[2]
        if not square or lengths.ndim != 2 or len(lengths) != len(whitening) or not lengths.size:
            raise ValueError(
                f"{path}: whitening {whitening.shape} and lengths {lengths.shape} do not fit"
            )
        if np.any(np.diff(lengths, axis=1) < 0) or not 0 < numbers[1] < 1:
            raise ValueError(f"{path}: lengths must ascend and rate lie between 0 and 1")
        return cls(whitening, lengths, *numbers)


def calibrate(
    episodes: Sequence[EpisodeErrors],
    *,
    false_alarms: float = 0.08,
    rate: float = DEFAULT_RATE,
) -> Calibration:
    """Calibrate a monitor on a healthy robot's episodes, driven by the planner to be watched.

    The first third of them give moments and ranks, the others the threshold. false_alarms: the
    probability of an alarm in a new healthy episode; for it, at least 1 / false_alarms - 1 others
    are needed. Raises ValueError for too few episodes and for values that are not finite.
    """
    if not 0 < false_alarms < 1 or not 0 < rate < 1:
        raise ValueError(
            f"false_alarms and rate must lie between 0 and 1, got {false_alarms} and {rate}"
        )
    for number, episode in enumerate(episodes):
        if not len(episode.steps) or not np.isfinite(episode.errors).all():
            raise ValueError(f"episode {number} must have errors, all finite numbers")
    first = max(1, len(episodes) // 3)
    rest = episodes[first:]
    place = math.ceil((len(rest) + 1) * (1 - false_alarms))
    if place > len(rest):
        raise ValueError(
            f"false_alarms {false_alarms} needs at least {math.ceil(1 / false_alarms) - 1} "
            f"episodes besides the first third, got {len(rest)}"
        )
    steps = np.concatenate([episode.steps for episode in episodes[:first]])
    errors = np.concatenate([episode.errors for episode in episodes[:first]]).astype(np.float64)
    whitening, lengths = [], []
    for step in range(int(max(episode.steps.max() for episode in episodes)) + 1):
        rows = errors[steps == step]
        if not len(rows):
            raise ValueError(f"the first {first} episodes have no error at step {step} of a plan")
        whitening.append(_whitening(rows))
        squared = _squared_lengths(rows, whitening[-1])
        lengths.append(np.quantile(squared, np.linspace(0, 1, KEPT_QUANTILES)))
    calibration = Calibration(np.stack(whitening), np.stack(lengths), math.inf, rate, false_alarms)
    highest = sorted(highest_level(calibration, episode) for episode in rest)
    return Calibration(
        calibration.whitening, calibration.lengths, highest[place - 1], rate, false_alarms
    )


def highest_level(calibration: Calibration, episode: EpisodeErrors) -> float:
    """The highest level that a monitor reaches in an episode."""
    return float(levels(calibration, episode).max())


def levels(calibration: Calibration, episode: EpisodeErrors) -> np.ndarray:
    """The monitor's level after each error of an episode: (T,)."""
    increments = calibration.increments(episode.steps, episode.errors)
    sums = np.concatenate([[0.0], np.cumsum(increments)])
    # The recursion max(0, level + increment) in closed form.
    result: np.ndarray = (sums - np.minimum.accumulate(sums))[1:]
    return result


class MisfitMonitor:
    """Watches one robot: says when the model has stopped to fit it.

        monitor = MisfitMonitor(Calibration.load("walker2d-misfit.json"))
        action = planner.act(observation)
        observation = robot.step(action)
        if monitor.observe(planner.expectation(), observation): ...  # time to collect play data

    level: evidence so far, 0 or more. alarm: whether it has passed the calibration's threshold
    since the last `reset`.
    """

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self.reset()

    def reset(self) -> None:
        """Begin a new episode: no evidence, no alarm."""
        self.level, self.alarm = 0.0, False

    def observe(self, expectation: Any, observation: Any) -> bool:
        """Take in the observation (S,) that followed `expectation`, which is what
        `Planner.expectation()` of a single robot gave for it; returns `alarm`.

        Where there was no expectation, nothing changes. Raises ValueError for other shapes, for
        steps of a plan beyond the calibrated ones, and for observations that are not finite.
        """
        step = int(expectation.steps)
        if step < 0:
            return self.alarm
        observed = np.asarray(observation, np.float64)
        expected = np.asarray(expectation.states, np.float64)
        if observed.shape != expected.shape or observed.ndim != 1:
            raise ValueError(
                f"observation must have the shape {expected.shape} of what was expected, got "
                f"{observed.shape}"
            )
        error = observed - expected
        if not np.isfinite(error).all():
            raise ValueError(f"observation and expectation must be finite, differ by {error}")
        added = self.calibration.increments(np.array([step]), error[None])[0]
        self.level = max(0.0, self.level + float(added))
        self.alarm = self.alarm or self.level > self.calibration.threshold
        return self.alarm


def _whitening(errors: np.ndarray) -> np.ndarray:
    """A matrix (S, S) that brings the second moments of errors (T, S) to about the identity."""
    variances = np.square(errors).mean(0)
    scale = np.sqrt(np.where(variances > 0, variances, 1.0))
    scaled = errors / scale
    moments = scaled.T @ scaled / len(errors) + RIDGE * np.eye(errors.shape[1])
    values, vectors = np.linalg.eigh(moments)
    result: np.ndarray = (vectors / np.sqrt(values)) / scale[:, None]
    return result


def _squared_lengths(errors: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.square(errors @ whitening).sum(-1)
    return lengths
