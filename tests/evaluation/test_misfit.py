"""The misfit monitor: its threshold's promise, and what it notices."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dmpc_fast.evaluation.misfit import (
    Calibration,
    EpisodeRecord,
    MisfitMonitor,
    calibrate,
    highest_level,
    levels,
)
from dmpc_fast.planning.robots import Expectation

STATE, ACTION, CHUNK = 5, 2, 3
#: A linear robot: state' = state @ FREE + action @ DRIVEN + noise.
FREE = 0.8 * np.eye(STATE) + 0.1 * np.eye(STATE, k=1)
DRIVEN = np.array([[0.0, 1.0, 0.3, 0.0, 0.0], [0.0, 0.0, 0.2, -0.8, 0.1]])


def episode(
    rng: np.random.Generator,
    length: int = 120,
    gains: tuple[float, float] = (1.0, 1.0),
    begins: int = 0,
) -> EpisodeRecord:
    """A robot with heavy-tailed noise that is alike in a row, driven by noise of its own; plans of
    CHUNK steps by the exact model. gains: of the actuators from step `begins` on."""
    noise = 0.3 * rng.standard_t(4, (length, STATE))
    noise[1:] += 0.4 * noise[:-1]
    actions = np.clip(rng.normal(size=(length, ACTION)), -1, 1)
    observations, expected = [rng.normal(size=STATE)], []
    for step in range(length):
        start = observations[-1] if step % CHUNK == 0 else expected[-1]
        expected.append(start @ FREE + actions[step] @ DRIVEN)
        real = actions[step] * (gains if step >= begins else 1.0)
        observations.append(observations[-1] @ FREE + real @ DRIVEN + noise[step])
    return EpisodeRecord(
        np.stack(observations), actions, np.stack(expected), np.arange(length) % CHUNK
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


@pytest.fixture
def calibration(rng: np.random.Generator) -> Calibration:
    return calibrate([episode(rng) for _ in range(60)], false_alarms=0.1)


def test_promise_of_false_alarms(rng: np.random.Generator) -> None:
    calibrations, new, rest, place = 30, 10, 12, 10
    rates = []
    for _ in range(calibrations):
        # A third of 18 is fitted; 13 * (1 - 0.25), rounded up, is the place of the threshold.
        calibration = calibrate([episode(rng, 40) for _ in range(18)], false_alarms=0.25)
        highest = [highest_level(calibration, episode(rng, 40)) for _ in range(new)]
        rates.append(np.mean(np.array(highest) > calibration.threshold))
    # A calibration's rate is Beta(rest + 1 - place, place), the alarms are binomial given it.
    mean = (rest + 1 - place) / (rest + 1)
    beta = mean * (1 - mean) / (rest + 2)
    deviation = math.sqrt((beta + (mean * (1 - mean) - beta) / new) / calibrations)
    assert abs(np.mean(rates) - mean) < 4.5 * deviation


@pytest.mark.parametrize("weak", [0, 1])
def test_weak_actuator_is_noticed_and_named(
    rng: np.random.Generator, calibration: Calibration, weak: int
) -> None:
    gains = (0.2, 1.0) if weak == 0 else (1.0, 0.2)
    for begins in (0, 50):
        right = 0
        for _ in range(20):
            found = levels(calibration, episode(rng, 150, gains, begins))[begins:]
            over = np.flatnonzero(found.max(axis=1) > calibration.threshold)
            right += bool(over.size and over[0] < 80 and found[over[0]].argmax() == weak)
        # One in a hundred is wrong over calibrations, by a false alarm of the other actuator.
        assert right >= 15


def test_reversed_actuator_is_noticed_sooner_than_a_weak_one(
    rng: np.random.Generator, calibration: Calibration
) -> None:
    weak, backwards = (
        np.mean([levels(calibration, episode(rng, gains=(g, 1.0)))[30, 0] for _ in range(20)])
        for g in (0.5, -1.0)
    )
    assert backwards > weak + 5


def test_monitor_is_the_closed_form(rng: np.random.Generator, calibration: Calibration) -> None:
    one = episode(rng, 60, gains=(0.3, 1.0))
    one.steps[17:20] = -1
    one.expected[17:20] = np.nan
    monitor = MisfitMonitor(calibration)
    wanted = levels(calibration, one)
    np.testing.assert_array_equal(wanted[17:20], np.broadcast_to(wanted[16], (3, ACTION)))
    for t, level in enumerate(wanted):
        expectation = Expectation(one.expected[t], int(one.steps[t]))
        alarm = monitor.observe(expectation, one.observations[t + 1], action=one.actions[t])
        np.testing.assert_allclose(monitor.levels, level, atol=1e-9)
        assert alarm == monitor.alarm
    assert monitor.alarm == bool((wanted > calibration.threshold).any())
    assert monitor.suspect == wanted[-1].argmax()
    monitor.reset()
    assert not monitor.levels.any() and not monitor.alarm


def test_units_play_no_part(rng: np.random.Generator) -> None:
    healthy, new = [episode(rng) for _ in range(30)], episode(rng, gains=(0.5, 0.5))
    states, commands = 10.0 ** rng.uniform(-3, 3, STATE), 10.0 ** rng.uniform(-3, 3, ACTION)

    def scaled(record: EpisodeRecord) -> EpisodeRecord:
        return EpisodeRecord(
            record.observations * states,
            record.actions * commands,
            record.expected * states,
            record.steps,
        )

    plain = levels(calibrate(healthy), new)
    other = levels(calibrate([scaled(record) for record in healthy]), scaled(new))
    np.testing.assert_allclose(plain, other, atol=1e-6)


def test_what_never_varied_plays_no_part(rng: np.random.Generator) -> None:
    healthy = [episode(rng) for _ in range(30)]
    for record in healthy:
        record.observations[:, 2] = record.expected[:, 2] = 7
        record.actions[:, 1] = 0
    calibration = calibrate(healthy)
    changed = episode(rng)
    found = levels(calibration, changed)
    assert np.isfinite(found).all() and not found[:, 1].any()
    changed.observations[:, 2] = 1e3
    np.testing.assert_allclose(levels(calibration, changed), found, atol=1e-6)


def test_file(tmp_path: Path, rng: np.random.Generator, calibration: Calibration) -> None:
    path = tmp_path / "calibration.json"
    calibration.save(path)
    new = episode(rng)
    np.testing.assert_array_equal(levels(Calibration.load(path), new), levels(calibration, new))
    data = json.loads(path.read_text(encoding="utf-8"))
    hostile = (
        ("format", 1),
        ("threshold", "1.0"),
        ("threshold", True),
        ("threshold", None),
        ("drift", -0.1),
        ("drift", 3.5),
        ("false_alarms", 1.0),
        ("offsets", [0.0]),
        ("offsets", ["0.0", "0.0"]),
        ("offsets", []),
        ("directions", [[1.0]]),
        ("directions", [[[1.0, 2.0], [1.0]]]),
        ("directions", [[[]]]),
        ("extra", 1),
    )
    for name, value in hostile:
        path.write_text(json.dumps({**data, name: value}), encoding="utf-8")
        with pytest.raises(ValueError, match=path.name):
            Calibration.load(path)


def test_refused_calibrations(rng: np.random.Generator) -> None:
    few = [episode(rng) for _ in range(6)]
    with pytest.raises(ValueError, match="at least 9"):
        calibrate(few, false_alarms=0.1)
    with pytest.raises(ValueError, match="false_alarms"):
        calibrate(few, false_alarms=0.0)
    with pytest.raises(ValueError, match="drift"):
        calibrate(few, drift=4.0)
    unplanned = replace(few[2], steps=np.full_like(few[2].steps, -1))
    with pytest.raises(ValueError, match="episode 2"):
        calibrate([*few[:2], unplanned], false_alarms=0.5)
    few[1].observations[3, 0] = np.nan
    with pytest.raises(ValueError, match="episode 1"):
        calibrate(few, false_alarms=0.5)


def test_refused_observations(calibration: Calibration) -> None:
    monitor = MisfitMonitor(calibration)
    state, action = np.zeros(STATE), np.zeros(ACTION)
    with pytest.raises(ValueError, match="0 to 2"):
        monitor.observe(Expectation(state, CHUNK), state, action=action)
    with pytest.raises(ValueError, match="shape"):
        monitor.observe(Expectation(state, 0), np.zeros(STATE + 1), action=action)
    with pytest.raises(ValueError, match="shape"):
        monitor.observe(Expectation(state, 0), state, action=np.zeros(ACTION + 1))
    with pytest.raises(ValueError, match="finite"):
        monitor.observe(Expectation(state, 0), np.full(STATE, np.inf), action=action)
    with pytest.raises(ValueError, match="finite"):
        monitor.observe(Expectation(state, 0), state, action=np.full(ACTION, np.nan))
    assert not monitor.levels.any() and not monitor.alarm
