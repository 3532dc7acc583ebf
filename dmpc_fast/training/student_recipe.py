"""What a student is to be, from its teacher's description: stages, losses, samplers, settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from dmpc_fast.model_file import Model
from dmpc_fast.spec import ModelSpec, SamplerSpec
from dmpc_fast.training.distillation import Distillation
from dmpc_fast.training.run import inherited, provenance
from dmpc_fast.training.settings import TrainingSettings

STUDENT_STAGES = ("proposal", "dynamics")
#: Optimiser steps per stage when none are given.
DISTILL_STEPS = {"proposal": 4000, "dynamics": 1500}
LEARNING_RATE = 1e-3
#: Stages that learn by Muon when none are given: docs/distillation.md says what it gains.
MUON_STAGES = ("proposal",)
#: Settings of the teacher's training that decide which windows there are and how they are drawn.
INHERITED = (
    "seed",
    "validation_fraction",
    "return_temperature",
    "weighted_return",
    "return_condition",
    "history_noise",
    "start_fraction",
    "start_steps",
    "mirror_states",
    "mirror_actions",
    "mirror_stages",
)


def datasets_of(spec: ModelSpec) -> list[str]:
    """Minari ids of the data that a teacher learned from, by its own account.

    Raises ValueError where it gives none.
    """
    ids = spec.provenance.get("datasets")
    if not isinstance(ids, list) or not ids or not all(isinstance(name, str) for name in ids):
        raise ValueError(
            f"the teacher's provenance names no datasets (got {ids!r:.200}): give the dataset"
        )
    return ids


def student_settings(
    teacher: ModelSpec, steps: int | Mapping[str, int] | None, given: Mapping[str, Any]
) -> TrainingSettings:
    """Settings of a student's training: `given` ones, then the teacher's own of `INHERITED`.

    steps: as in `distill`; None leaves out what takes one step already. Raises ValueError for a
    stage that no student has.
    """
    if steps is None:
        steps = {stage: DISTILL_STEPS[stage] for stage in stages_of_many_steps(teacher)}
    elif isinstance(steps, int):
        steps = dict.fromkeys(STUDENT_STAGES, steps)
    for stage in steps:
        if stage not in STUDENT_STAGES:
            raise ValueError(f"steps has {stage!r}, but a student has stages {STUDENT_STAGES}")
    own = inherited(teacher, INHERITED)
    if not teacher.context:
        # A teacher whose context was fixed takes none, whatever its proposal once learned from.
        own.pop("return_condition", None)
    return TrainingSettings(steps=dict(steps), **{"muon": MUON_STAGES, **own, **given})


def stages_of_many_steps(teacher: ModelSpec) -> tuple[str, ...]:
    """The stages that there is something to distil of. Raises ValueError where there is none."""
    samplers = {stage: teacher.stages[stage].sampler for stage in STUDENT_STAGES}
    found = tuple(stage for stage, s in samplers.items() if s is not None and s.steps > 1)
    if not found:
        raise ValueError(
            "the teacher's proposal and dynamics take 1 step each already: nothing to distil"
        )
    return found


def recipe_losses(
    teacher: ModelSpec,
    stages: Sequence[str],
    overrides: Mapping[str, Mapping[str, Any]],
    evaluations: Mapping[str, int],
    *,
    without_teacher: bool,
) -> dict[str, Distillation]:
    """The default loss of each of `stages`, with some fields replaced.

    Unless `overrides` say otherwise, the way to be learned is in as many DDIM steps as the teacher's
    own sampler takes: more steps come nearer to the flow's end, but it is with its own that the
    teacher was found to plan well (docs/distillation.md). All jumps start at pure noise where one
    regression is all that is asked for, else half of them.

    Raises ValueError for losses that cannot teach what `evaluations` per sample ask of a stage.
    """
    for stage in overrides:
        if stage not in stages:
            raise ValueError(f"distillation has {stage!r}, but the stages are {list(stages)}")
    losses = {}
    for stage in stages:
        sampler = teacher.stages[stage].sampler
        assert sampler is not None  # the spec gives both stages one
        given = {"solver_steps": sampler.steps, **overrides.get(stage, {})}
        loss = Distillation(**given)
        if "pure_noise" not in given and (loss.method == "consistency" or evaluations[stage] > 1):
            loss = dataclasses.replace(loss, pure_noise=0.5)
        if without_teacher and loss.temperature != 1:
            raise ValueError(
                f"{stage} has temperature {loss.temperature}, which is of a teacher's way: there is "
                "none without a teacher"
            )
        losses[stage] = loss.without_teacher() if without_teacher else loss
        if evaluations[stage] > 1 and not losses[stage].starts_below:
            raise ValueError(
                f"{stage} learns to jump from pure noise alone, which takes 1 evaluation, got "
                f"{evaluations[stage]}: more need jumps from below (pure_noise under 1, and a "
                "teacher where the method is 'regression')"
            )
    proposal = losses.get("proposal")
    if proposal is not None and proposal.method == "regression" and not proposal.teacher:
        raise ValueError(
            "regression without a teacher learns the mean of the data, which is no proposal: use "
            "method 'consistency' for the proposal"
        )
    return losses


def student_spec(
    teacher: Model,
    ids: Sequence[str],
    training: TrainingSettings,
    losses: Mapping[str, Distillation],
    evaluations: Mapping[str, int],
) -> ModelSpec:
    """The teacher's description with the student's samplers and provenance.

    Raises ValueError where a stage to be distilled is a student's already: it was taught to jump,
    and no longer gives the velocities of a flow that one could follow.
    """
    stages, earlier = dict(teacher.spec.stages), teacher.spec.provenance.get("distillation")
    earlier = earlier if isinstance(earlier, dict) else {}
    for stage, loss in losses.items():
        if stage in earlier:
            raise ValueError(f"{stage} of the teacher is a student's itself: distil its teacher")
        # Without jumps that end above 0 in training, several steps must re-noise in between.
        rule = "ddim" if loss.intermediate or evaluations[stage] == 1 else "consistency"
        sampler = SamplerSpec.uniform(evaluations[stage], rule)  # type: ignore[arg-type]
        stages[stage] = dataclasses.replace(stages[stage], sampler=sampler)
    made = {stage: dataclasses.asdict(loss) for stage, loss in losses.items()}
    details = {
        "recipe": "distill",
        "parent": teacher.sha256,
        "distillation": {**earlier, **made},
        "parent_provenance": teacher.spec.provenance,
    }
    return dataclasses.replace(
        teacher.spec, stages=stages, provenance=provenance(list(ids), training, details)
    )
