"""Environments are made, and checked against the model that will drive them."""

from __future__ import annotations

import dataclasses
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from dmpc_fast.evaluation.environments import (
    check_environment,
    environment_action,
    make_environment,
    step_limit,
)
from dmpc_fast.evaluation.scores import normalized_score, score_range
from dmpc_fast.spec import EnvironmentSpec, ModelSpec, preset_stages


def model_spec(states: int, actions: int, period: float, keys: Any = None) -> ModelSpec:
    return ModelSpec(
        state_size=states,
        action_size=actions,
        horizon=4,
        history=1,
        context=0,
        discount=0.99,
        termination_penalty=0.0,
        stages=preset_stages("tiny"),
        environment=EnvironmentSpec(None, keys, (None,) * actions, (None,) * actions, period),
    )


class _Reacher(gymnasium.Env):
    observation_space = spaces.Dict(
        {"position": spaces.Box(-1, 1, (2,)), "goal": spaces.Box(-1, 1, (2,))}
    )
    action_space = spaces.Box(-1, 1, (1,))


def test_a_fitting_environment_passes() -> None:
    check_environment(make_environment("Hopper-v5"), model_spec(11, 3, 0.008))
    check_environment(_Reacher(), model_spec(4, 1, 0.1, ("goal", "position")))
    # A model may read a part of what the environment offers.
    check_environment(_Reacher(), model_spec(2, 1, 0.1, ("position",)))


@pytest.mark.parametrize(
    ("environment", "spec", "message"),
    [
        (
            make_environment("Hopper-v5"),
            model_spec(17, 6, 0.008),
            "observations of size 11 and actions of size 3, but the model was made for 17 and 6",
        ),
        (
            make_environment("Hopper-v5"),
            model_spec(11, 3, 0.05),
            "'Hopper-v5' has a control period of 0.008 s, but the model was made for 0.05 s",
        ),
        (
            make_environment("Hopper-v5"),
            model_spec(11, 3, 0.008, ("goal",)),
            r"has plain observations, but the model reads dictionary observations with \['goal'\]",
        ),
        (_Reacher(), model_spec(4, 1, 0.1), "but the model reads plain observations"),
        (_Reacher(), model_spec(4, 1, 0.1, ("goal", "speed")), "reads dictionary .*'speed'"),
        (make_environment("CartPole-v1"), model_spec(4, 1, 0.1), "actions must be continuous"),
        (
            make_environment("Hopper-v5"),
            dataclasses.replace(model_spec(11, 3, 0.008), context=1),
            "takes a context of size 1, which environment 'Hopper-v5' does not give",
        ),
    ],
)
def test_what_does_not_fit_is_refused(environment: Any, spec: ModelSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_environment(environment, spec)


def test_a_control_period_can_be_overridden() -> None:
    spec = dataclasses.replace(model_spec(11, 3, 0.05))
    check_environment(make_environment("Hopper-v5"), spec, allow_period_mismatch=True)
    slower = make_environment("Hopper-v5", modify=["option.timestep=0.004"])
    with pytest.raises(ValueError, match="control period of 0.016 s"):
        check_environment(slower, model_spec(11, 3, 0.008))


def test_an_unknown_or_unchangeable_environment_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot make the environment 'Hopper-v99'"):
        make_environment("Hopper-v99")
    with pytest.raises(ValueError, match="'Pendulum-v1' has no MuJoCo model to change"):
        make_environment("Pendulum-v1", modify=["option.gravity=0,0,-1"])


def test_the_lower_step_limit_holds() -> None:
    environment = make_environment("Hopper-v5")
    assert step_limit(environment, None) == 1000
    assert step_limit(environment, 30) == 30
    assert step_limit(environment, 2000) == 1000
    assert step_limit(_Reacher(), 7) == 7
    for wrong in (None, 0):
        with pytest.raises(ValueError, match="expected at least one positive limit"):
            step_limit(_Reacher(), wrong)


def test_an_action_takes_the_form_of_its_space() -> None:
    environment = _Reacher()
    environment.action_space = spaces.Box(-1, 2, (2, 2), np.float64)
    action = environment_action(environment, np.array([-3, 0, 1, 5], np.float32))
    assert action.dtype == np.float64 and action.tolist() == [[-1, 0], [1, 2]]


def test_scores_are_those_of_d4rl() -> None:
    references = score_range("Hopper-v5")
    assert references == (-20.272305, 3234.3)
    np.testing.assert_allclose(normalized_score(np.array(references), references), [0, 100])
    assert score_range("Ant-v5") is None
    with pytest.raises(ValueError, match="low < high"):
        normalized_score(np.zeros(1), (1.0, 1.0))
