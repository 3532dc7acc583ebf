"""A robot that needs no physics engine: a point that actions push, ending when it leaves its field."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

ID = "point_robot:TestPoint-v0"
PERIOD_S = 0.02


class PointRobot(gymnasium.Env):
    """State: position and velocity (2 + 2). Action: acceleration (2). Reward: minus the distance."""

    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float64)
    action_space = spaces.Box(-1, 1, (2,), np.float32)
    dt = PERIOD_S

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self._position, self._velocity = self.np_random.uniform(-1, 1, (2, 2))
        return self._state(), {}

    def step(self, action: np.ndarray) -> Any:
        assert action.shape == (2,) and action.dtype == np.float32
        self._velocity = self._velocity + 0.2 * np.clip(action, -1, 1)
        self._position = self._position + 0.1 * self._velocity
        distance = float(np.hypot(*self._position))
        return self._state(), -distance, distance > 1.6, False, {}

    def render(self) -> np.ndarray:
        return np.full((33, 48, 3), 100, np.uint8)

    def _state(self) -> np.ndarray:
        return np.concatenate([self._position, self._velocity])


gymnasium.register("TestPoint-v0", PointRobot, max_episode_steps=40, disable_env_checker=True)
