"""The misfit monitor: its ranks, its threshold's promise, and what it notices."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from dmpc_fast.evaluation.misfit import (
    Calibration,
    EpisodeErrors,
    MisfitMonitor,
    calibrate,
    highest_level,
    levels,
)
from dmpc_fast.planning.robots import Expectation

STATE, CHUNK = 5, 3


def episode(rng: np.random.Generator, length: int = 120, size: float = 1.0) -> EpisodeErrors:
    """Heavy-tailed errors that are alike in a row, correlated, and grow along a plan."""
    steps = np.arange(length) % CHUNK
    mixing = np.eye(STATE) + 0.5 * np.eye(STATE, k=1)
    noise = rng.standard_t(4, (length, STATE))
    noise[1:] += 0.6 * noise[:-1]
    return EpisodeErrors(steps, size * (1 + steps[:, None]) * (noise @ mixing))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


@pytest.fixture
def calibration(rng: np.random.Generator) -> Calibration:
    return calibrate([episode(rng) for _ in range(60)], false_alarms=0.1)


def test_few_false_alarms_and_quick_detection(
    rng: np.random.Generator, calibration: Calibration
) -> None:
    alarms = [highest_level(calibration, episode(rng)) > calibration.threshold for _ in range(200)]
    # The promise holds on average over calibrations; that of one of 40 episodes varies by 0.05.
    assert np.mean(alarms) < 0.35
    for _ in range(10):
        over = levels(calibration, episode(rng, size=3.0)) > calibration.threshold
        assert over.any() and over.argmax() < 60


def test_promise_over_calibrations(rng: np.random.Generator) -> None:
    alarms = []
    for _ in range(40):
        healthy = [episode(rng, 40) for _ in range(18)]
        calibration = calibrate(healthy, false_alarms=0.25)
        new = (highest_level(calibration, episode(rng, 40)) for _ in range(10))
        alarms += [level > calibration.threshold for level in new]
    # 0.25 and four standard errors of 40 calibrations' means, each of which varies by about 0.15.
    assert np.mean(alarms) < 0.25 + 4 * 0.15 / math.sqrt(40)


def test_monitor_is_the_closed_form(rng: np.random.Generator, calibration: Calibration) -> None:
    one = episode(rng, 50, size=1.5)
    monitor = MisfitMonitor(calibration)
    wanted = levels(calibration, one)
    assert not monitor.observe(Expectation(np.full(STATE, np.nan), -1), np.zeros(STATE))
    for step, error, level in zip(one.steps, one.errors, wanted, strict=True):
        expected = rng.normal(size=STATE)
        alarm = monitor.observe(Expectation(expected, int(step)), expected + error)
        assert monitor.level == pytest.approx(level, abs=1e-9)
        assert alarm == monitor.alarm
    assert monitor.alarm == bool((wanted > calibration.threshold).any())
    monitor.reset()
    assert (monitor.level, monitor.alarm) == (0.0, False)


def test_units_play_no_part(rng: np.random.Generator) -> None:
    healthy = [episode(rng) for _ in range(30)]
    units = 10.0 ** rng.uniform(-3, 3, STATE)
    scaled = [EpisodeErrors(e.steps, e.errors * units) for e in healthy]
    new = episode(rng, size=1.3)
    plain = levels(calibrate(healthy), new)
    other = levels(calibrate(scaled), EpisodeErrors(new.steps, new.errors * units))
    # A rank may change where two lengths agree to rounding.
    np.testing.assert_allclose(plain, other, atol=0.05)


def test_dimension_that_never_varied(rng: np.random.Generator) -> None:
    healthy = [episode(rng) for _ in range(30)]
    for one in healthy:
        one.errors[:, 2] = 0
    calibration = calibrate(healthy)
    changed = episode(rng)
    changed.errors[:, 2] = 1e3
    assert highest_level(calibration, changed) > calibration.threshold


def test_file(tmp_path: Path, rng: np.random.Generator, calibration: Calibration) -> None:
    path = tmp_path / "calibration.json"
    calibration.save(path)
    new = episode(rng)
    np.testing.assert_array_equal(levels(Calibration.load(path), new), levels(calibration, new))
    data = json.loads(path.read_text(encoding="utf-8"))
    for name, value in (("format", 2), ("rate", 1.5), ("lengths", [[1.0]]), ("threshold", "x")):
        path.write_text(json.dumps({**data, name: value}), encoding="utf-8")
        with pytest.raises(ValueError, match=path.name):
            Calibration.load(path)


def test_refusals(rng: np.random.Generator, calibration: Calibration) -> None:
    few = [episode(rng) for _ in range(6)]
    with pytest.raises(ValueError, match="at least 9"):
        calibrate(few, false_alarms=0.1)
    with pytest.raises(ValueError, match="false_alarms"):
        calibrate(few, false_alarms=0.0)
    few[1].errors[3, 0] = np.nan
    with pytest.raises(ValueError, match="episode 1"):
        calibrate(few)
    monitor = MisfitMonitor(calibration)
    state = np.zeros(STATE)
    with pytest.raises(ValueError, match="0 to 2"):
        monitor.observe(Expectation(state, CHUNK), state)
    with pytest.raises(ValueError, match="shape"):
        monitor.observe(Expectation(state, 0), np.zeros(STATE + 1))
    with pytest.raises(ValueError, match="finite"):
        monitor.observe(Expectation(state, 0), np.full(STATE, np.inf))
    assert (monitor.level, monitor.alarm) == (0.0, False)
