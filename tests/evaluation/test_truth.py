"""True futures agree with stepping the environment, for every task that has a reader."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from dmpc_fast.evaluation import ant
from dmpc_fast.evaluation.environments import environment_action, make_environment
from dmpc_fast.evaluation.truth import TrueFutures

TASKS = ("Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", ant.TASK)


def driven(env_id: str, seed: int, steps: int, **options: list[str]) -> gymnasium.Env:
    """An environment after some random steps."""
    environment = make_environment(env_id, **options)
    environment.reset(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        environment.step(rng.uniform(-0.4, 0.4, environment.action_space.shape).astype(np.float32))
    return environment


def stepped(
    environment: gymnasium.Env, actions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations, rewards and terminations of one action sequence in the environment itself."""
    states, rewards, terminated = [], [], []
    for action in actions:
        state, reward, end, *_ = environment.step(environment_action(environment, action))
        states.append(state)
        rewards.append(reward)
        terminated.append(end)
    return np.array(states), np.array(rewards), np.array(terminated)


@pytest.mark.parametrize("env_id", TASKS)
@pytest.mark.parametrize("threads", [1, 2])
def test_true_futures_are_what_stepping_gives(env_id: str, threads: int) -> None:
    environment = driven(env_id, seed=3, steps=7)
    truth = TrueFutures(environment, threads=threads)
    start = truth.now()
    rng = np.random.default_rng(4)
    # Beyond the bounds here and there, and long enough for a fall.
    actions = rng.uniform(-1.3, 1.3, (3, 40, *environment.action_space.shape)).astype(np.float32)
    futures = truth.roll(start, actions)
    again = truth.now()
    np.testing.assert_array_equal(start.physics, again.physics)
    for index in range(len(actions)):
        twin = driven(env_id, seed=3, steps=7)
        states, rewards, terminated = stepped(twin, actions[index])
        twin.close()
        end = int(np.argmax(terminated)) if terminated.any() else len(states) - 1
        scale = np.abs(states).max()
        np.testing.assert_allclose(
            futures.states[index], states, rtol=1e-6, atol=1e-6 * scale, err_msg=str(index)
        )
        np.testing.assert_allclose(futures.rewards[index, : end + 1], rewards[: end + 1], atol=1e-6)
        assert not futures.rewards[index, end + 1 :].any()
        assert (futures.terminated[index] == np.logical_or.accumulate(terminated)).all()
        assert futures.going[index] == (not terminated.any())
    if env_id in ("Hopper-v5", "Walker2d-v5"):
        assert futures.terminated.any() and not futures.terminated.all()
    environment.close()


@pytest.mark.parametrize("env_id", TASKS)
def test_futures_can_be_continued(env_id: str) -> None:
    environment = driven(env_id, seed=5, steps=3)
    truth = TrueFutures(environment)
    actions = np.random.default_rng(6).uniform(-0.5, 0.5, (4, 9, environment.action_space.shape[0]))
    whole = truth.roll(truth.now(), actions)
    part = truth.roll(truth.now(), actions[:, :5])
    rest = truth.roll(part.last, actions[:, 5:])
    np.testing.assert_array_equal(part.states, whole.states[:, :5])
    # The constraint solver starts anew at the seam.
    np.testing.assert_allclose(rest.states, whole.states[:, 5:], rtol=1e-3, atol=1e-3)
    environment.close()


def test_the_robot_may_be_changed() -> None:
    change = ["body[torso].mass*=1.5"]
    changed, usual = (driven("Hopper-v5", 1, 0, modify=m) for m in (change, []))
    actions = np.full((1, 6, 3), 0.3, np.float32)
    futures, plain = (TrueFutures(e).roll(TrueFutures(e).now(), actions) for e in (changed, usual))
    states, _, _ = stepped(changed, actions[0])
    np.testing.assert_allclose(futures.states[0], states, rtol=1e-6, atol=1e-6)
    assert np.abs(futures.states - plain.states).max() > 1e-3


def test_wrong_use_is_refused() -> None:
    environment = driven("Hopper-v5", 1, 0)
    truth = TrueFutures(environment)
    with pytest.raises(ValueError, match=r"shape \(N, F, 3\), got \(2, 5, 4\)"):
        truth.roll(truth.now(), np.zeros((2, 5, 4)))
    futures = truth.roll(truth.now(), np.zeros((2, 5, 3)))
    with pytest.raises(ValueError, match="1 or 3 states, got 2"):
        truth.roll(futures.last, np.zeros((3, 5, 3)))
    with pytest.raises(ValueError, match="threads must be at least 1"):
        TrueFutures(environment, threads=0)
    with pytest.raises(ValueError, match="half_cheetah_v5, hopper_v5, walker2d_v5"):
        TrueFutures(make_environment("Swimmer-v5"))
