"""Named changes of a MuJoCo model: a weak motor, a heavy foot, a slippery floor.

A change is written ``kind[name].field=value,...`` or, to scale, ``kind[name].field*=factor,...``:

    actuator[foot_joint].ctrlrange=-0.5,0.5     body[torso].mass*=1.5
    geom[foot_geom].friction=0.9                option.gravity=0,0,-12

One value sets or scales the first component of a field, several that many. Actuators go by their
own name or by the joint that they drive. A range switches its limit on. A body's mass changes its
mass alone: scale its inertia too where the added mass is spread over the body.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

#: Fields that may be changed in a compiled model: those whose derived quantities MuJoCo works out
#: anew, be it while stepping or in mj_setConst.
FIELDS = {
    "actuator": ("biasprm", "ctrlrange", "dynprm", "forcerange", "gainprm", "gear"),
    "body": ("inertia", "mass", "pos", "quat"),
    "geom": ("friction", "margin", "solimp", "solref"),
    "joint": ("armature", "damping", "frictionloss", "qpos_spring", "range", "stiffness"),
    "option": ("density", "gravity", "timestep", "viscosity", "wind"),
}
#: The switch that a range needs to have an effect.
LIMIT_OF = {"ctrlrange": "ctrllimited", "forcerange": "forcelimited", "range": "limited"}
NOT_NEGATIVE = ("armature", "damping", "density", "frictionloss", "friction", "viscosity")
POSITIVE = ("inertia", "mass", "timestep")
_SYNTAX = re.compile(r"(\w+)(?:\[([^\]]*)\])?\.(\w+)\s*(\*?=)\s*(.+)")


@dataclass(frozen=True)
class RobotChange:
    """One change, parsed: `values` replace, or scale, the first components of kind[name].field."""

    kind: str
    name: str | None
    field: str
    scale: bool
    values: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> RobotChange:
        """Raises ValueError with the syntax, or with the kinds and fields that there are."""
        match = _SYNTAX.fullmatch(text.strip())
        if match is None:
            raise ValueError(
                f"cannot read the change {text!r}: expected kind[name].field=value,... or "
                "kind[name].field*=factor,..., such as body[torso].mass*=1.5"
            )
        kind, name, field, operator, numbers = match.groups()
        if kind not in FIELDS:
            raise ValueError(f"change {text!r}: unknown kind {kind!r}; known kinds: {list(FIELDS)}")
        if field not in FIELDS[kind]:
            raise ValueError(
                f"change {text!r}: unknown field {field!r} of {kind}; known fields: "
                f"{list(FIELDS[kind])}"
            )
        if (name is None) != (kind == "option"):
            expected = "option.field, without a name" if name is not None else f"{kind}[name].field"
            raise ValueError(f"change {text!r}: expected {expected}")
        try:
            values = tuple(float(number) for number in numbers.split(","))
        except ValueError:
            raise ValueError(
                f"change {text!r}: expected numbers joined by commas, got {numbers!r}"
            ) from None
        if not all(math.isfinite(value) for value in values):
            raise ValueError(f"change {text!r}: values must be finite")
        return cls(kind, name, field, operator == "*=", values)

    def __str__(self) -> str:
        name = "" if self.name is None else f"[{self.name}]"
        values = ",".join(f"{value:g}" for value in self.values)
        return f"{self.kind}{name}.{self.field}{'*' if self.scale else ''}={values}"


def apply_changes(model: mujoco.MjModel, changes: Sequence[str]) -> None:
    """Apply `changes` in order to a compiled model, and work out anew what depends on them."""
    for text in changes:
        _apply(model, RobotChange.parse(text))
    if changes:
        mujoco.mj_setConst(model, mujoco.MjData(model))


def _apply(model: mujoco.MjModel, change: RobotChange) -> None:
    target = model.opt if change.kind == "option" else _find(model, change)
    field = getattr(target, change.field)
    new = np.array(field, np.float64).reshape(-1)
    count = len(change.values)
    if count > len(new):
        raise ValueError(f"change {change}: {change.field} has {len(new)} values, got {count}")
    values = np.asarray(change.values)
    new[:count] = new[:count] * values if change.scale else values
    _check(change, new)
    if isinstance(field, np.ndarray):
        field[:] = new.reshape(field.shape)
    else:
        setattr(target, change.field, float(new[0]))
    if change.field in LIMIT_OF:
        getattr(target, LIMIT_OF[change.field])[:] = 1


def _check(change: RobotChange, new: np.ndarray) -> None:
    if change.field in LIMIT_OF and not new[0] < new[1]:
        raise ValueError(f"change {change}: expected low < high, got {new[0]:g} and {new[1]:g}")
    if change.field in POSITIVE and not (new > 0).all():
        raise ValueError(f"change {change}: {change.field} must be positive, got {new.tolist()}")
    if change.field in NOT_NEGATIVE and not (new >= 0).all():
        raise ValueError(
            f"change {change}: {change.field} must not be negative, got {new.tolist()}"
        )


def _find(model: mujoco.MjModel, change: RobotChange) -> Any:
    """MuJoCo's view of the named thing, whose fields are writable arrays."""
    counts = {"actuator": model.nu, "body": model.nbody, "geom": model.ngeom, "joint": model.njnt}
    access: Callable[[int], Any] = getattr(model, change.kind)
    names = [access(index).name for index in range(counts[change.kind])]
    found = [index for index, name in enumerate(names) if name and name == change.name]
    if change.kind == "actuator" and not found:
        names = [name or _joint_of(model, index) for index, name in enumerate(names)]
        driven = [_joint_of(model, index) for index in range(model.nu)]
        found = [index for index, joint in enumerate(driven) if joint and joint == change.name]
    if len(found) != 1:
        problem = "unknown" if not found else "ambiguous"
        raise ValueError(
            f"change {change}: {problem} {change.kind} {change.name!r}; the model has "
            f"{[name for name in names if name]}"
        )
    return access(found[0])


def _joint_of(model: mujoco.MjModel, actuator: int) -> str:
    """Name of the joint that an actuator drives, or nothing."""
    joints = (int(mujoco.mjtTrn.mjTRN_JOINT), int(mujoco.mjtTrn.mjTRN_JOINTINPARENT))
    if int(model.actuator_trntype[actuator]) not in joints:
        return ""
    return str(model.joint(int(model.actuator_trnid[actuator, 0])).name)
