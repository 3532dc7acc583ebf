"""The model that a planner runs on, and how its dynamics are replaced between two plans."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dmpc_fast.backends.base import Backend
from dmpc_fast.model_file import Model
from dmpc_fast.spec import ModelSpec

#: What of a description may differ between a model and the one that takes its place.
FREE_FIELDS = ("provenance",)


@dataclass(frozen=True)
class LiveModel:
    """What a plan runs on, from its first stage to its last: an engine and the hash of its file."""

    engine: Backend
    sha256: str


class Replacement:
    """Makes engines that differ from a first model in the weights of its dynamics alone.

    model: the first one. create: how an engine is made of a model, None where the planner was given
    a ready one.
    """

    def __init__(self, model: Model, create: Callable[[Model], Backend] | None) -> None:
        self._spec, self._create = model.spec, create
        self._digests = _digests(model)
        #: Held while a replacement is prepared, so that of two the later one wins.
        self.lock = threading.Lock()

    def prepare(self, model: Model) -> LiveModel:
        """`model` ready to plan. Raises ValueError naming what it may not differ in."""
        if self._create is None:
            raise ValueError(
                "this planner was given its backend ready-made and cannot make another one; make it "
                "with Planner.load to update its dynamics"
            )
        _check_spec(self._spec, model.spec)
        for name, digest in _digests(model).items():
            if digest != self._digests[name]:
                raise ValueError(
                    f"the model differs from the planner's in {name!r}, but only tensors of its "
                    "dynamics may be replaced: expected a model that was fine-tuned from it"
                )
        return LiveModel(self._create(model), model.sha256)


def _check_spec(own: ModelSpec, other: ModelSpec) -> None:
    for field in dataclasses.fields(ModelSpec):
        if field.name in FREE_FIELDS:
            continue
        expected, got = getattr(own, field.name), getattr(other, field.name)
        if field.name == "stages":
            for stage, sizes in expected.items():
                if got[stage] != sizes:
                    raise ValueError(
                        f"the model's stages.{stage} is {got[stage]}, the planner's {sizes}"
                    )
        elif got != expected:
            raise ValueError(f"the model's {field.name} is {got}, the planner's {expected}")


def _digests(model: Model) -> dict[str, bytes]:
    """Hash of every tensor but those of the dynamics, which need not be kept to be compared."""
    return {
        name: hashlib.sha256(np.ascontiguousarray(array).data).digest()
        for name, array in model.tensors.items()
        if not name.startswith("dynamics.")
    }
