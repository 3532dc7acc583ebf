"""Named changes of MuJoCo models, on the robots of Gymnasium."""

from __future__ import annotations

import re
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.robot_changes import FIELDS, RobotChange, apply_changes


def changed(env_id: str, *changes: str) -> tuple[Any, Any]:
    """The untouched model and the changed one."""
    healthy = gymnasium.make(env_id).unwrapped.model
    return healthy, make_environment(env_id, modify=changes).unwrapped.model


def differing_fields(first: mujoco.MjModel, second: mujoco.MjModel) -> set[str]:
    names = [name for name in dir(first) if isinstance(getattr(first, name), np.ndarray)]
    return {
        name for name in names if not np.array_equal(getattr(first, name), getattr(second, name))
    }


def test_an_actuator_goes_by_the_joint_that_it_drives() -> None:
    healthy, model = changed("Walker2d-v5", "actuator[foot_joint].ctrlrange=-0.5,0.5")
    joint = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, "foot_joint")
    (index,) = np.flatnonzero(model.actuator_trnid[:, 0] == joint)
    assert model.actuator_ctrlrange[index].tolist() == [-0.5, 0.5]
    assert model.actuator_ctrllimited[index] == 1
    assert differing_fields(healthy, model) == {"actuator_ctrlrange"}
    others = np.delete(model.actuator_ctrlrange, index, axis=0)
    assert (np.abs(others) == 1).all()


def test_commanded_actions_stay_and_the_motor_obeys_its_limit() -> None:
    change = "actuator[foot_joint].ctrlrange=-0.5,0.5"
    environments = [make_environment("Walker2d-v5", modify=m) for m in ((), (change,))]
    assert environments[0].action_space == environments[1].action_space
    foot = 2
    for environment, limit in zip(environments, (1.0, 0.5), strict=True):
        environment.reset(seed=0)
        environment.step(np.ones(6, np.float32))
        data = environment.unwrapped.data
        assert data.ctrl.tolist() == [1.0] * 6
        assert data.actuator_force[foot] == pytest.approx(limit)


def test_an_actuator_goes_by_its_own_name_too() -> None:
    _, model = changed("HalfCheetah-v5", "actuator[bfoot].gear*=0.5")
    assert model.actuator("bfoot").gear.tolist() == [30.0, 0, 0, 0, 0, 0]


def test_values_replace_or_scale_the_first_components() -> None:
    healthy, model = changed(
        "Hopper-v5",
        "body[foot].mass=3",
        "body[torso].mass*=1.5",
        "body[torso].inertia*=2,2,2",
        "geom[foot_geom].friction=0.9",
        "joint[foot_joint].damping=2.5",
        "option.gravity=0,0,-12",
        "option.viscosity=0.1",
    )
    assert model.body("foot").mass == 3
    assert model.body("torso").mass == healthy.body("torso").mass * 1.5
    np.testing.assert_array_equal(model.body("torso").inertia, healthy.body("torso").inertia * 2)
    assert model.geom("foot_geom").friction[0] == 0.9
    np.testing.assert_array_equal(
        model.geom("foot_geom").friction[1:], healthy.geom("foot_geom").friction[1:]
    )
    address = model.joint("foot_joint").dofadr[0]
    assert model.dof_damping[address] == 2.5
    assert (np.delete(model.dof_damping, address) == np.delete(healthy.dof_damping, address)).all()
    assert model.opt.gravity.tolist() == [0, 0, -12] and model.opt.viscosity == 0.1
    # What depends on masses has been worked out anew.
    assert model.body("torso").subtreemass == pytest.approx(float(model.body_mass.sum()))


def test_changes_apply_in_order_and_none_changes_nothing() -> None:
    _, model = changed("Hopper-v5", "body[foot].mass=3", "body[foot].mass*=2")
    assert model.body("foot").mass == 6
    assert differing_fields(*changed("Hopper-v5")) == set()


def test_a_range_switches_its_limit_on() -> None:
    xml = """<mujoco><worldbody><body><joint name="hinge"/><geom name="ball" size="1"/></body>
    </worldbody><actuator><motor name="motor" joint="hinge"/></actuator></mujoco>"""
    model = mujoco.MjModel.from_xml_string(xml)
    apply_changes(
        model,
        [
            "actuator[hinge].ctrlrange=-1,2",
            "actuator[motor].forcerange=-3,4",
            "joint[hinge].range=0,1",
        ],
    )
    assert model.actuator_ctrllimited[0] and model.actuator_forcelimited[0] and model.jnt_limited[0]
    assert model.actuator_ctrlrange.tolist() == [[-1, 2]]


def test_an_actuator_of_two_on_one_joint_must_be_named() -> None:
    xml = """<mujoco><worldbody><body><joint name="hinge"/><geom size="1"/></body></worldbody>
    <actuator><motor joint="hinge"/><motor joint="hinge"/></actuator></mujoco>"""
    model = mujoco.MjModel.from_xml_string(xml)
    with pytest.raises(ValueError, match="ambiguous actuator 'hinge'"):
        apply_changes(model, ["actuator[hinge].gear=2"])


@pytest.mark.parametrize("kind", FIELDS)
def test_every_known_field_exists_and_can_be_set(kind: str) -> None:
    names = {"actuator": "foot_joint", "body": "foot", "geom": "foot_geom", "joint": "foot_joint"}
    for field in FIELDS[kind]:
        target = kind if kind == "option" else f"{kind}[{names[kind]}]"
        value = "-1,1" if field.endswith("range") else "0.5"
        changed("Hopper-v5", f"{target}.{field}={value}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("nonsense", "expected kind[name].field=value"),
        ("motor[foot].gear=1", "unknown kind 'motor'; known kinds: ['actuator', 'body'"),
        ("body[foot].weight=1", "unknown field 'weight' of body; known fields: ['inertia', 'mass'"),
        ("body[hand].mass=1", "unknown body 'hand'; the model has ['world', 'torso'"),
        ("actuator[torso].gear=1", "unknown actuator 'torso'; the model has ['thigh_joint', "),
        ("body.mass=1", "expected body[name].field"),
        ("option[x].gravity=1", "expected option.field, without a name"),
        ("body[foot].mass=heavy", "expected numbers joined by commas, got 'heavy'"),
        ("body[foot].mass=nan", "values must be finite"),
        ("body[foot].mass=1,2", "mass has 1 values, got 2"),
        ("body[foot].mass=0", "mass must be positive, got [0.0]"),
        ("geom[foot_geom].friction=-1", "friction must not be negative, got [-1.0, "),
        ("joint[foot_joint].damping=-1", "damping must not be negative"),
        ("actuator[foot_joint].ctrlrange=0.5,-0.5", "expected low < high, got 0.5 and -0.5"),
        ("actuator[foot_joint].ctrlrange=2", "expected low < high, got 2 and 1"),
    ],
)
def test_a_wrong_change_is_refused_with_what_there_is(change: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make_environment("Hopper-v5", modify=[change])


@pytest.mark.parametrize(
    "text", ["body[torso].mass*=1.5", "option.gravity=0,0,-12", "actuator[a b].ctrlrange=-1,1"]
)
def test_a_change_prints_as_it_is_written(text: str) -> None:
    assert str(RobotChange.parse(f"  {text} ")) == text
