"""Mirrored windows: what changes, what does not, and that a symmetric robot really does the same."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from dmpc_fast.data.mirror import Mirror
from dmpc_fast.data.windows import WindowBatch

#: Of Gymnasium's Walker2d-v5: right and left leg.
STATES = "0 1 5 6 7 2 3 4 8 9 10 14 15 16 11 12 13".split()
ACTIONS = "3 4 5 0 1 2".split()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


def windows(rng: np.random.Generator, size: int = 5) -> WindowBatch:
    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=(size, *shape)).astype(np.float32)

    return WindowBatch(
        states=normal(2, 3), past_actions=normal(1, 2), mask=normal(1), actions=normal(4, 2),
        next_states=normal(4, 3), rewards=normal(4), valid=normal(4) > 0, continues=normal(4),
        value=normal(), value_valid=normal() > 0,
    )  # fmt: skip


def test_chosen_windows_are_mirrored_and_no_others(rng: np.random.Generator) -> None:
    given = windows(rng)
    where = np.array([True, False, True, False, False])
    mirrored = Mirror.of(["1", "0", "-2"], ["-0", "1"], 3, 2).apply(given, where)
    np.testing.assert_array_equal(mirrored.states[0, :, 0], given.states[0, :, 1])
    np.testing.assert_array_equal(mirrored.next_states[2, :, 2], -given.next_states[2, :, 2])
    np.testing.assert_array_equal(mirrored.actions[0, :, 0], -given.actions[0, :, 0])
    np.testing.assert_array_equal(mirrored.past_actions[2, :, 1], given.past_actions[2, :, 1])
    for name in ("states", "past_actions", "actions", "next_states"):
        changed, before = getattr(mirrored, name), getattr(given, name)
        np.testing.assert_array_equal(changed[~where], before[~where])
        assert changed.dtype == before.dtype
    for name in ("rewards", "continues", "value", "valid", "value_valid", "mask"):
        assert getattr(mirrored, name) is getattr(given, name)


def test_walker2d_walks_alike_on_the_other_leg(rng: np.random.Generator) -> None:
    mirror = Mirror.of(STATES, ACTIONS, 17, 6)
    robots = [gymnasium.make("Walker2d-v5").unwrapped for _ in range(2)]
    for robot in robots:
        robot.reset(seed=0)
    positions = robots[0].init_qpos + 0.05 * rng.normal(size=9)
    velocities = rng.normal(size=9)
    image = mirror.states(np.concatenate([positions[1:], velocities]))
    robots[0].set_state(positions, velocities)
    robots[1].set_state(np.concatenate([positions[:1], image[:8]]), image[8:])
    for _ in range(10):
        # float64: Gymnasium sums a float32 action's cost in float32, in which the legs' order shows.
        action = rng.uniform(-1, 1, 6)
        observation, reward, *_ = robots[0].step(action)
        mirrored, same_reward, *_ = robots[1].step(mirror.actions(action))
    np.testing.assert_allclose(mirrored, mirror.states(observation), rtol=1e-9, atol=1e-9)
    assert reward == pytest.approx(same_reward, rel=1e-9)


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (["0", "1"], "must name 3 dimensions, got 2"),
        (["0", "1", "1"], "each dimension from 0 to 2 once"),
        (["0", "1", "x"], "each dimension from 0 to 2 once"),
        (["0", "1", "--2"], "each dimension from 0 to 2 once"),
        (["1", "2", "0"], "twice must give back"),
        (["-1", "0", "2"], "twice must give back"),
    ],
)
def test_what_is_no_symmetry_is_refused(states: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mirror.of(states, ["0", "1"], 3, 2)
