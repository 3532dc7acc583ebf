"""Gymnasium environments: made, changed, and checked against the model that will drive them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import gymnasium
import numpy as np

from dmpc_fast.data.spaces import action_bounds, flatten_observations, observation_layout
from dmpc_fast.spec import ModelSpec

#: Relative difference up to which two control periods are the same.
PERIOD_TOLERANCE = 1e-6
#: The camera that follows the robot, as Gymnasium's models call it.
TRACKING_CAMERA = "track"


def make_environment(
    env_id: str, *, modify: Sequence[str] = (), render_mode: str | None = None
) -> gymnasium.Env:
    """A Gymnasium environment, its MuJoCo model changed as `modify` says.

    modify: changes as `dmpc_fast.evaluation.robot_changes` describes them, made after construction,
    so that action and observation spaces stay those of the unchanged robot. Raises ValueError for
    an unknown id or change, and for changes of an environment that has no MuJoCo model.
    """
    try:
        environment = gymnasium.make(env_id, render_mode=render_mode, disable_env_checker=True)
    except gymnasium.error.Error as error:
        raise ValueError(f"cannot make the environment {env_id!r}: {error}") from error
    if modify:
        from dmpc_fast.evaluation.robot_changes import apply_changes

        model = getattr(environment.unwrapped, "model", None)
        if model is None:
            environment.close()
            raise ValueError(f"environment {env_id!r} has no MuJoCo model to change")
        try:
            apply_changes(model, modify)
        except ValueError:
            environment.close()
            raise
    if render_mode is not None:
        _follow_robot(environment)
    return environment


def _follow_robot(environment: gymnasium.Env) -> None:
    """Film a MuJoCo robot by its own camera, if it has one: the default one stands still."""
    renderer = getattr(environment.unwrapped, "mujoco_renderer", None)
    model = getattr(environment.unwrapped, "model", None)
    if renderer is None or model is None:
        return
    names = [model.camera(index).name for index in range(model.ncam)]
    if renderer.camera_id == -1 and TRACKING_CAMERA in names:
        renderer.camera_id = names.index(TRACKING_CAMERA)


def check_environment(
    environment: gymnasium.Env, spec: ModelSpec, *, allow_period_mismatch: bool = False
) -> None:
    """Raise ValueError unless `environment` is one that the model can drive.

    Sizes of observations and actions must be the model's, and so must the control period, unless
    `allow_period_mismatch` is set or the environment does not say.
    """
    name = environment.spec.id if environment.spec is not None else str(environment)
    owner = f"environment {name!r}"
    keys, size = observation_layout(environment.observation_space, owner)
    wanted = spec.environment.observation_keys
    if wanted is not None or keys is not None:
        missing = sorted(set(wanted or ()) - set(keys or ()))
        if wanted is None or keys is None or missing:
            raise ValueError(
                f"{owner} has {_describe(keys)}, but the model reads {_describe(wanted)}"
            )
        sample = environment.observation_space.sample()
        size = len(flatten_observations(sample, wanted))
    actions = len(action_bounds(environment.action_space, owner)[0])
    if (size, actions) != (spec.state_size, spec.action_size):
        raise ValueError(
            f"{owner} has observations of size {size} and actions of size {actions}, but the model "
            f"was made for {spec.state_size} and {spec.action_size}"
        )
    if spec.context:
        raise ValueError(
            f"the model takes a context of size {spec.context}, which {owner} does not give: fix it "
            "by `dmpc-fast export MODEL --context X --out FILE`"
        )
    period = getattr(environment.unwrapped, "dt", None)
    expected = spec.environment.control_period_s
    if allow_period_mismatch or period is None:
        return
    if not math.isclose(float(period), expected, rel_tol=PERIOD_TOLERANCE):
        raise ValueError(
            f"{owner} has a control period of {float(period):g} s, but the model was made for "
            f"{expected:g} s; override with allow_period_mismatch (--allow-period-mismatch)"
        )


def step_limit(environment: gymnasium.Env, max_steps: int | None) -> int:
    """Steps after which an episode ends: the environment's own limit, or a lower `max_steps`.

    Raises ValueError where neither says: such an episode may never end.
    """
    own = environment.spec.max_episode_steps if environment.spec is not None else None
    limits = [limit for limit in (own, max_steps) if limit is not None]
    if not limits or min(limits) < 1:
        raise ValueError(
            f"environment {environment} has the step limit {own} and max_steps is {max_steps}; "
            "expected at least one positive limit"
        )
    return min(limits)


def environment_action(environment: gymnasium.Env, action: np.ndarray) -> np.ndarray:
    """A flat action (A,) as the environment's action space has it: shape, type and bounds.

    A model clips to its own bounds, which are those of its data and may be absent.
    """
    space = environment.action_space
    assert isinstance(space, gymnasium.spaces.Box)
    values = np.asarray(action, space.dtype).reshape(space.shape)
    clipped: np.ndarray = np.clip(values, space.low, space.high)
    return clipped


def _describe(keys: Sequence[str] | None) -> str:
    return "plain observations" if keys is None else f"dictionary observations with {list(keys)}"
