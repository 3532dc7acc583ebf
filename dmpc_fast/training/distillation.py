"""How one stage of a student learns to jump: one frozen dataclass, kept in the file's provenance."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

METHODS = ("consistency", "regression")
SOLVERS = ("ddim", "multistep")


@dataclass(frozen=True)
class Distillation:
    """The loss of a student's stage; see `training.student`.

    method: ``consistency`` compares a jump with a short way along the trajectory followed by the
    student's own jump; ``regression`` with the teacher's whole way from the same noise. teacher:
    whether a teacher solves the way; without one, consistency takes the data's own noise for it, and
    regression the data for its end (the mean of what follows: for dynamics alone).
    solver, solver_steps: rule and evaluations of the teacher's whole way, see `training.solver`
    (regression); consistency takes DDIM steps, and as many cells in its grid of angles when
    training ends. first_cells: cells when it starts. pure_noise: share of jumps
    that start at pi/2, where one-step sampling does. intermediate: share of jumps that end above
    angle 0. denoising_weight: of the velocity regression on the data (DSM). huber: constant of the
    pseudo-Huber distance, times the square root of the dimension; 0 for the mean square.
    temperature: the teacher's way starts at the student's pure noise times this, so that below 1 the
    student's samples differ less than the teacher's (low-temperature sampling, as in Ajay et al. 2023);
    for jumps of the whole way alone.
    """

    method: Literal["consistency", "regression"] = "regression"
    teacher: bool = True
    solver: Literal["ddim", "multistep"] = "ddim"
    solver_steps: int = 5
    first_cells: int = 2
    pure_noise: float = 1.0
    intermediate: float = 0.0
    denoising_weight: float = 0.0
    huber: float = 0.0
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}, got {self.method!r}")
        if self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {SOLVERS}, got {self.solver!r}")
        for name in ("solver_steps", "first_cells"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 255:
                raise ValueError(f"{name} must be an integer from 1 to 255, got {value!r}")
        for name in ("pure_noise", "intermediate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("denoising_weight", "huber"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if self.temperature != 1 and not (
            self.method == "regression"
            and self.teacher
            and (self.pure_noise, self.intermediate) == (1, 0)
        ):
            raise ValueError(
                f"temperature {self.temperature} needs jumps of a teacher's whole way alone: method "
                "'regression' with a teacher, pure_noise 1 and intermediate 0"
            )

    @property
    def starts_below(self) -> bool:
        """Whether some jumps start below pi/2, as every step of a sampler but its first does."""
        return self.pure_noise < 1 and (self.teacher or self.method == "consistency")

    def without_teacher(self) -> Distillation:
        """The same loss on data alone: what fine-tuning a student goes on with."""
        return dataclasses.replace(self, teacher=False, temperature=1.0)

    @classmethod
    def from_provenance(cls, stage: str, provenance: dict[str, Any]) -> Distillation | None:
        """The loss that made a stage of a model; None where it was trained as a teacher.

        Raises ValueError where the file's entry is not one of this version's.
        """
        entries = provenance.get("distillation")
        if not isinstance(entries, dict) or stage not in entries:
            return None
        names = {field.name for field in dataclasses.fields(cls)}
        entry = entries[stage]
        # Files of students that were made before there was a temperature lack it.
        if not isinstance(entry, dict) or not names - {"temperature"} <= set(entry) <= names:
            raise ValueError(
                f"provenance.distillation.{stage} must be an object with the keys {sorted(names)}, "
                f"got {entry!r:.200}"
            )
        return cls(**entry)


def carried_on(provenance: dict[str, Any]) -> dict[str, Any]:
    """The entries by which a student's descendant says how its stages were made: none for teachers.

    The dynamics' loss is the one without a teacher, which is how they are fine-tuned.
    """
    entries = provenance.get("distillation")
    if not isinstance(entries, dict):
        return {}
    made = Distillation.from_provenance("dynamics", provenance)
    tuned = {} if made is None else {"dynamics": dataclasses.asdict(made.without_teacher())}
    return {"distillation": {**entries, **tuned}}
