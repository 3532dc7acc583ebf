"""Models that experiments train are made as the model that they are compared with."""

from __future__ import annotations

import dataclasses
from typing import Any

from dmpc_fast.assets import resolve
from dmpc_fast.evaluation.experiments.trained import like, own_training
from dmpc_fast.model_file import Model, load_model


def with_settings(model: Model, without: tuple[str, ...] = (), **settings: Any) -> Model:
    made = {**model.spec.provenance["training"], **settings}
    made = {name: value for name, value in made.items() if name not in without}
    provenance = {**model.spec.provenance, "training": made}
    return dataclasses.replace(model, spec=dataclasses.replace(model.spec, provenance=provenance))


def test_settings_that_a_provenance_does_not_name_are_those_of_its_time() -> None:
    newer = ("muon", "muon_learning_rate", "dynamics_angles", "horizon_weighting")
    model = load_model(resolve("hopper-teacher"))
    options = like(with_settings(model, without=newer), horizon=16)
    assert (options["muon"], options["dynamics_angles"]) == ((), "all")
    assert options["horizon_weighting"] == 0
    sampler = model.spec.stages["dynamics"].sampler
    assert sampler is not None and options["dynamics_steps"] == sampler.steps


def test_settings_that_it_names_are_kept() -> None:
    given: dict[str, Any] = {"muon": ["dynamics"], "horizon_weighting": 1.5}
    options = like(with_settings(load_model(resolve("hopper-teacher")), **given), horizon=16)
    assert {key: options[key] for key in given} == given


def test_another_machine_trains_in_its_own_way() -> None:
    options = like(
        with_settings(load_model(resolve("hopper-teacher")), precision="bf16"), horizon=16
    )
    assert not {"precision", "kernels", "compile"} & set(options)


def test_a_student_is_made_again_as_its_teacher_was() -> None:
    teacher = load_model(resolve("hopper-teacher"))
    provenance = {
        "recipe": "distill",
        "distillation": {"proposal": {}},
        "training": {"steps": {"proposal": 4}, "seed": 0},
        "parent_provenance": teacher.spec.provenance,
    }
    student = dataclasses.replace(
        teacher, spec=dataclasses.replace(teacher.spec, provenance=provenance)
    )
    assert own_training(student) == own_training(teacher) == teacher.spec.provenance["training"]
    options, before = like(student, horizon=16), like(teacher, horizon=16)
    assert before.pop("proposal_steps") == 5  # which is the default of `train`
    assert options == before
