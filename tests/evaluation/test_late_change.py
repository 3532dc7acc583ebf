"""A robot that changes in mid-episode."""

from __future__ import annotations

import numpy as np
import pytest

from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.late_change import LateChange

WEAK = "actuator[foot_joint].ctrlrange=-0.5,0.5"
HEAVY = "body[torso].mass*=2"


def trajectory(environment: object, steps: int = 12, seed: int = 3) -> np.ndarray:
    observations = [environment.reset(seed=seed)[0]]  # type: ignore[attr-defined]
    actions = np.random.default_rng(0).uniform(-1, 1, (steps, 6)).astype(np.float32)
    for action in actions:
        observations.append(environment.step(action)[0])  # type: ignore[attr-defined]
    return np.stack(observations)


@pytest.mark.parametrize("change", [WEAK, HEAVY])
def test_before_healthy_after_changed_and_healthy_again(change: str) -> None:
    healthy = trajectory(make_environment("Walker2d-v5"))
    environment = LateChange(make_environment("Walker2d-v5"), [change], 6)
    first, again = trajectory(environment), trajectory(environment)
    np.testing.assert_array_equal(first[:7], healthy[:7])
    assert not np.allclose(first[-1], healthy[-1])
    # The second episode begins with the unchanged robot, and a factor does not accumulate.
    np.testing.assert_array_equal(first, again)


def test_change_at_the_first_step_is_a_changed_robot() -> None:
    late = LateChange(make_environment("Walker2d-v5"), [HEAVY], 0)
    changed = make_environment("Walker2d-v5", modify=[HEAVY])
    np.testing.assert_array_equal(trajectory(late), trajectory(changed))


def test_unknown_change() -> None:
    with pytest.raises(ValueError, match="unknown kind"):
        LateChange(make_environment("Walker2d-v5"), ["wheel[left].mass=1"], 0)
