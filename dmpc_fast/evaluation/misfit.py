"""Does the model still fit the robot? A sequential test, one per actuator, of what a planner expected.

An error e is observed less expected state. An actuator that has lost the share d of its effect
errs along its own effect on the state, in proportion to its command a_i: e is -d a_i g_i besides
what it is on the healthy robot. g_i, the change of state that a unit of the command adds within a
control step, is regressed on healthy episodes; so are the second moments M of errors at each step
of a plan. The score of d (Rao 1948) is a_i times the matched filter of g_i,

    z_i = -a_i (g_i' M^-1 e) / sqrt(g_i' M^-1 g_i),

standardised by its mean and deviation on the healthy robot and clipped, for errors have heavy
tails: contacts. The evidence against an actuator is the cumulative sum (Page 1954)

    level_i <- max(0, level_i + z_i - drift),

the likelihood ratio of independent normal z_i of mean 2 drift against mean 0, in units of 2 drift.
The alarm is raised where the highest level passes a threshold. Errors in a row are alike, so no
formula for independent ones gives the threshold: it is a conformal quantile of the highest levels
of whole healthy episodes that had no part in the fit. A new healthy episode like them then raises
an alarm with at most the probability that was asked for, whatever the errors' distribution.

Changes that no weakened actuator looks like, such as a heavier torso, are outside this test.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast import strict_json

#: Half the mean of the standardised score that is tested for.
DEFAULT_DRIFT = 0.3
#: Bound of a standardised score.
DEFAULT_CLIP = 3.0
#: Share of each variance that is added to it, so that what never varies cannot divide by zero.
RIDGE = 1e-4
FORMAT = 2


@dataclass(frozen=True)
class EpisodeRecord:
    """T control steps of one episode, in environment units.

    observations (T + 1, S): what was seen before each step, and after the last. actions (T, A):
    what was sent to the robot. expected (T, S) and steps (T,): what `Planner.expectation()` said
    of the observation after each step, -1 among the steps where there was no plan.
    """

    observations: np.ndarray
    actions: np.ndarray
    expected: np.ndarray
    steps: np.ndarray

    @property
    def errors(self) -> np.ndarray:
        """Observed less expected states (T, S)."""
        return np.asarray(self.observations[1:], np.float64) - self.expected


@dataclass(frozen=True)
class Calibration:
    """What a healthy robot's errors are like, for each of K steps of a plan.

    directions (K, S, A): an error times them, times the action, is the score in its deviations.
    offsets (A,): its mean there. drift, clip: as above. threshold: of the highest level.
    false_alarms: probability of an alarm in a healthy episode that the threshold was made for.
    """

    directions: np.ndarray
    offsets: np.ndarray
    threshold: float
    drift: float
    clip: float
    false_alarms: float

    def increments(self, steps: np.ndarray, errors: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """What errors (T, S) at steps (T,) of plans after actions (T, A) add to each level: (T, A).

        Nothing where a step is -1.
        """
        steps = np.asarray(steps)
        count, size, actuators = self.directions.shape
        for name, value, width in (("errors", errors, size), ("actions", actions, actuators)):
            if np.shape(value) != (len(steps), width):
                raise ValueError(
                    f"{name} must have shape {(len(steps), width)}, got {np.shape(value)}"
                )
        if len(steps) and not (steps.min() >= -1 and steps.max() < count):
            raise ValueError(
                f"steps of plans must be 0 to {count - 1}, as calibrated, got {int(steps.min())} "
                f"to {int(steps.max())}"
            )
        planned = steps >= 0
        increments = np.zeros((len(steps), actuators))
        scores = _scores(self.directions, steps[planned], errors[planned], actions[planned])
        increments[planned] = np.clip(scores - self.offsets, -self.clip, self.clip) - self.drift
        return increments

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file that `load` reads; it appears when it is whole."""
        path = Path(path)
        data = {
            "format": FORMAT,
            "directions": self.directions.tolist(),
            "offsets": self.offsets.tolist(),
            **{name: getattr(self, name) for name in _NUMBERS},
        }
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(data, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(partial, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Calibration:
        """Read what `save` wrote. Raises ValueError for anything else."""
        data = strict_json.parse(Path(path).read_text(encoding="utf-8"))
        fields = {"format", "directions", "offsets", *_NUMBERS}
        if not isinstance(data, dict) or set(data) != fields or data["format"] != FORMAT:
            raise ValueError(f"{path} is not a calibration of a misfit monitor, format {FORMAT}")
        try:
            directions = _array(data["directions"], 3)
            offsets = _array(data["offsets"], 1)
            numbers = {name: float(_array(data[name], 0)) for name in _NUMBERS}
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if directions.shape[2:] != offsets.shape:
            raise ValueError(
                f"{path}: directions {directions.shape} and offsets {offsets.shape} do not fit"
            )
        if not (0 < numbers["drift"] < numbers["clip"] and 0 < numbers["false_alarms"] < 1):
            raise ValueError(
                f"{path}: expected 0 < drift < clip and 0 < false_alarms < 1, got {numbers}"
            )
        return cls(directions, offsets, **numbers)


_NUMBERS = ("threshold", "drift", "clip", "false_alarms")


def calibrate(
    episodes: Sequence[EpisodeRecord],
    *,
    false_alarms: float = 0.08,
    drift: float = DEFAULT_DRIFT,
    clip: float = DEFAULT_CLIP,
) -> Calibration:
    """Calibrate a monitor on a healthy robot's episodes, driven by the planner to be watched.

    The first third of them give directions and offsets, the others the threshold. false_alarms:
    the probability of an alarm in a new healthy episode; for it, at least 1 / false_alarms - 1
    others are needed. Raises ValueError for too few episodes and for values that are not finite.
    """
    if not 0 < false_alarms < 1 or not 0 < drift < clip:
        raise ValueError(
            "false_alarms must lie between 0 and 1, and drift between 0 and clip, got "
            f"{false_alarms}, {drift} and {clip}"
        )
    for number, episode in enumerate(episodes):
        _check(number, episode)
    first = max(1, len(episodes) // 3)
    rest = episodes[first:]
    place = math.ceil((len(rest) + 1) * (1 - false_alarms))
    if place > len(rest):
        raise ValueError(
            f"false_alarms {false_alarms} needs at least {math.ceil(1 / false_alarms) - 1} "
            f"episodes besides the first third, got {len(rest)}"
        )
    count = int(max(episode.steps.max() for episode in episodes)) + 1
    directions, offsets = _fit(episodes[:first], count)
    calibration = Calibration(directions, offsets, math.inf, drift, clip, false_alarms)
    highest = sorted(highest_level(calibration, episode) for episode in rest)
    return replace(calibration, threshold=highest[place - 1])


def highest_level(calibration: Calibration, episode: EpisodeRecord) -> float:
    """The highest level that a monitor reaches in an episode."""
    return float(levels(calibration, episode).max())


def levels(calibration: Calibration, episode: EpisodeRecord) -> np.ndarray:
    """The monitor's level of each actuator after each control step of an episode: (T, A)."""
    increments = calibration.increments(episode.steps, episode.errors, episode.actions)
    sums = np.concatenate([np.zeros((1, increments.shape[1])), np.cumsum(increments, axis=0)])
    # The recursion max(0, level + increment) in closed form.
    result: np.ndarray = (sums - np.minimum.accumulate(sums, axis=0))[1:]
    return result


class MisfitMonitor:
    """Watches one robot: says when the model has stopped to fit it.

        monitor = MisfitMonitor(Calibration.load("walker2d-misfit.json"))
        action = planner.act(observation)
        expectation = planner.expectation()
        observation = robot.step(action)
        if monitor.observe(expectation, observation, action=action): ...  # collect play data

    levels (A,): evidence against each actuator so far, 0 or more. alarm: whether one of them has
    passed the calibration's threshold since the last `reset`.
    """

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration
        self.reset()

    def reset(self) -> None:
        """Begin a new episode: no evidence, no alarm."""
        self.levels = np.zeros(len(self.calibration.offsets))
        self.alarm = False

    @property
    def suspect(self) -> int:
        """The actuator with the highest level: its place in the action."""
        return int(self.levels.argmax())

    def observe(self, expectation: Any, observation: Any, *, action: Any) -> bool:
        """Take in the observation (S,) that followed `action` (A,); returns `alarm`.

        action: what `Planner.act` gave and the robot was sent. expectation: what
        `Planner.expectation()` of a single robot gave after it, before the next `act`. Where there
        was no expectation, nothing changes. Raises ValueError for other shapes, for steps of a plan
        beyond the calibrated ones, and for values that are not finite.
        """
        step = int(expectation.steps)
        if step < 0:
            return self.alarm
        observed = np.asarray(observation, np.float64)
        expected = np.asarray(expectation.states, np.float64)
        command = np.asarray(action, np.float64)
        if observed.shape != expected.shape or observed.ndim != 1:
            raise ValueError(
                f"observation must have the shape {expected.shape} of what was expected, got "
                f"{observed.shape}"
            )
        error = observed - expected
        if not (np.isfinite(error).all() and np.isfinite(command).all()):
            raise ValueError(
                f"observation, expectation and action must be finite; the first two differ by "
                f"{error}, the action is {command}"
            )
        added = self.calibration.increments(np.array([step]), error[None], command[None])[0]
        self.levels = np.maximum(0.0, self.levels + added)
        self.alarm = self.alarm or float(self.levels.max()) > self.calibration.threshold
        return self.alarm


def _check(number: int, episode: EpisodeRecord) -> None:
    planned = episode.steps >= 0
    values = (episode.observations, episode.actions, episode.expected[planned])
    if not planned.any() or not all(np.isfinite(value).all() for value in values):
        raise ValueError(f"episode {number} must have expectations, and finite numbers alone")


def _fit(episodes: Sequence[EpisodeRecord], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Directions (K, S, A) and offsets (A,) of a Calibration for K = count steps of a plan."""
    response = _response(episodes)
    steps, errors, actions = (
        np.concatenate([getattr(episode, name) for episode in episodes])
        for name in ("steps", "errors", "actions")
    )
    planned = steps >= 0
    steps, errors, actions = steps[planned], errors[planned], actions[planned]
    filters = []
    for step in range(count):
        rows = errors[steps == step]
        if not len(rows):
            raise ValueError(
                f"the first {len(episodes)} episodes have no error at step {step} of a plan"
            )
        filters.append(_matched_filter(rows, response))
    directions = np.stack(filters)
    scores = _scores(directions, steps, errors, actions)
    deviations = _positive(scores.std(axis=0))
    return directions / deviations, scores.mean(axis=0) / deviations


def _response(episodes: Sequence[EpisodeRecord]) -> np.ndarray:
    """What a unit of each action adds to the change of state within a control step: (A, S).

    By ridge regression on state and action. Responses that depend on the state were tried too: what
    they gain in fit they lose in variance.
    """
    states = np.concatenate([episode.observations[:-1] for episode in episodes])
    changes = np.concatenate([np.diff(episode.observations, axis=0) for episode in episodes])
    actions = np.concatenate([episode.actions for episode in episodes])
    inputs = np.concatenate([states, actions], axis=1).astype(np.float64)
    inputs -= inputs.mean(axis=0)
    scale = _positive(inputs.std(axis=0))
    inputs /= scale
    outputs = changes - changes.mean(axis=0, dtype=np.float64)
    moments = inputs.T @ inputs / len(inputs) + RIDGE * np.eye(inputs.shape[1])
    weights = np.linalg.solve(moments, inputs.T @ outputs / len(inputs)) / scale[:, None]
    response: np.ndarray = weights[states.shape[1] :]
    return response


def _matched_filter(errors: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Vectors (S, A): an error times each has unit second moment, and of all such its mean moves
    most where a loss along minus that actuator's response (A, S) is added."""
    scale = _positive(np.sqrt(np.square(errors).mean(axis=0)))
    scaled = errors / scale
    moments = scaled.T @ scaled / len(errors) + RIDGE * np.eye(errors.shape[1])
    wanted = (response / scale).T
    found = np.linalg.solve(moments, wanted)
    lengths = _positive(np.sqrt((wanted * found).sum(axis=0)))
    result: np.ndarray = -found / lengths / scale[:, None]
    return result


def _scores(
    directions: np.ndarray, steps: np.ndarray, errors: np.ndarray, actions: np.ndarray
) -> np.ndarray:
    scores: np.ndarray = np.einsum("ts,tsa->ta", errors, directions[steps]) * actions
    return scores


def _positive(values: np.ndarray) -> np.ndarray:
    """1 in place of 0: what never varies is left as it is."""
    return np.where(values > 0, values, 1.0)


def _array(value: Any, dimensions: int) -> np.ndarray:
    """Numbers from JSON, lists nested `dimensions` deep."""
    array = np.array(value)
    if array.ndim != dimensions or array.dtype.kind not in "if" or not array.size:
        raise ValueError(
            f"expected numbers, {dimensions} lists deep, got {strict_json.shown(value)}"
        )
    return array.astype(np.float64)
