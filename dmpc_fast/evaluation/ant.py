"""Gymnasium's Ant-v5 with a state that the physics alone decides: 27 observations, 8 actions.

Registered as `dmpc_fast/Ant-v5` when this module is imported; `TASK` imports it wherever it is made.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
from gymnasium.envs.mujoco.ant_v5 import AntEnv

ID = "dmpc_fast/Ant-v5"
TASK = f"{__name__}:{ID}"


class StateAnt(AntEnv):
    """Ant-v5 without contact forces, neither seen nor paid for, and with speeds of whole steps.

    Gymnasium measures positions one substep before a step's end, where MuJoCo last worked them out;
    here they are those of the end. The physics is the same.
    """

    def do_simulation(self, ctrl: Any, n_frames: int) -> None:
        super().do_simulation(ctrl, n_frames)
        mujoco.mj_kinematics(self.model, self.data)


gymnasium.register(
    id=ID,
    entry_point=f"{__name__}:StateAnt",
    max_episode_steps=1000,
    kwargs={"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.0},
)
