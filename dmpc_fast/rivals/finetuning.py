"""Ways of fine-tuning the dynamics to a weak ankle: what they repair, what they forget, what they take.

All weights, the last layers, or low-rank factors; and of a distilled student, the student itself
against its teacher, distilled again afterwards. A model of one step each is a student already and has
no such rows; dynamics that take one step are not distilled again. Beside scores stand open-loop errors
on episodes of both robots that nothing learned from, which tell small changes that scores do not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.backends import registry
from dmpc_fast.data.minari import load_episodes
from dmpc_fast.data.windows import Windows
from dmpc_fast.evaluation.experiments import defect
from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.evaluation.experiments.defect import DEFECT, MODEL, TASK, play_episodes
from dmpc_fast.evaluation.experiments.episode_scores import planner_scores, shown
from dmpc_fast.evaluation.experiments.mixed_model import with_proposal
from dmpc_fast.evaluation.experiments.trained import Trained, trained
from dmpc_fast.model_file import load_model
from dmpc_fast.rivals.open_loop import open_loop
from dmpc_fast.rivals.step_models import chained

#: Ways of fine-tuning, `full` by the defaults of `finetune`. Few weights, and those that start at 0,
#: take larger steps; no rate was tuned.
METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "last-layers": {"method": "last_layers", "learning_rate": 1e-3},
    "lora": {"method": "lora", "learning_rate": 1e-3},
}
#: Of a student in `Common.models`; without one, a student of the model is distilled.
STUDENT = f"{MODEL}-student"
#: Episodes of either robot that errors are measured on, and the steps that are shown.
TEST_EPISODES, SHOWN_STEPS = 20, (1, 8, 32)
ROBOTS: dict[str, tuple[str, ...]] = {"defect": (DEFECT,), "healthy": ()}


@dataclass(frozen=True)
class _Making:
    """How an arm's model comes about: `make`, and what of it decides the result."""

    make: Callable[[], Trained]
    details: dict[str, Any]


def run(common: Common) -> dict[str, dict[str, Any]]:
    """Teacher and student before, then after each way of fine-tuning."""
    settings = {
        **common.described(),
        "model_sha256": load_model(common.model(MODEL)).sha256,
        "play": play_episodes(common)[-1],
        "finetune_steps": common.finetune_steps,
        "test_episodes": _test_episodes(common),
    }
    arms = [
        Arm(name, {**settings, **making.details}, functools.partial(_measure, common, making.make))
        for name, making in _makings(common).items()
    ]
    return run_arms(common.out / "finetuning", arms, progress=common.progress, only=common.arms)


def _makings(common: Common) -> dict[str, _Making]:
    stages = load_model(common.model(MODEL)).spec.stages
    samplers = {name: stages[name].sampler for name in ("proposal", "dynamics")}
    many = {name for name, sampler in samplers.items() if sampler is not None and sampler.steps > 1}
    makings = {"before": _Making(lambda: Trained(common.model(MODEL), None), {})}
    for name, options in METHODS.items():
        makings[name] = _Making(functools.partial(_tuned, common, name), options)
    given = common.models.get(STUDENT)
    if given is None and not many:
        return makings
    student = {
        "student": None if given is None else load_model(given).sha256,
        "train_steps": common.train_steps,
    }
    makings["student-before"] = _Making(lambda: _student(common), student)
    makings["student-direct"] = _Making(lambda: _tuned(common, "full", student=True), student)
    if "dynamics" in many:
        makings["student-redistilled"] = _Making(lambda: _redistilled(common), student)
    return makings


def _tuned(common: Common, name: str, *, student: bool = False) -> Trained:
    """Teacher or student after play."""
    parent = _student(common).path if student else common.model(MODEL)
    play = defect.play_data(common, play_episodes(common)[-1])
    return trained(common, "finetune", parent, play, steps=common.finetune_steps, **METHODS[name])


def _student(common: Common) -> Trained:
    """The given student, or one of the model."""
    if STUDENT in common.models:
        return Trained(common.models[STUDENT], None)
    return trained(common, "distill", common.model(MODEL), steps=common.train_steps)


def _redistilled(common: Common) -> Trained:
    """The student with the dynamics of its fine-tuned teacher, distilled on play data: as many steps
    for the student as fine-tuning takes, after as many for the teacher."""
    teacher = _tuned(common, "full")
    play = defect.play_data(common, play_episodes(common)[-1])
    again = trained(
        common, "distill", teacher.path, [play], steps={"dynamics": common.finetune_steps}
    )
    path = with_proposal(again.path, _student(common).path, common.out / "models")
    parts = (teacher.seconds, again.seconds)
    known = [seconds for seconds in parts if seconds is not None]
    return Trained(path, sum(known) if len(known) == len(parts) else None)


def _measure(common: Common, make: Callable[[], Trained]) -> dict[str, Any]:
    made = make()
    result: dict[str, Any] = {"finetune_seconds": made.seconds}
    for robot, modify in ROBOTS.items():
        result[robot] = {
            **planner_scores(common, made.path, TASK, modify=modify),
            "errors": _errors(common, made.path, robot),
        }
    return result


def _errors(common: Common, path: Path, robot: str) -> list[float]:
    """Median error by step, in standard deviations, on episodes of the unadapted planner on a robot,
    of other seeds than play data and evaluations."""
    model = load_model(path)
    dataset = defect.recorded(
        common, f"test-{robot}", _test_episodes(common), ROBOTS[robot], defect.TEST_SEED
    )
    windows = Windows(
        load_episodes([dataset], progress=common.progress),
        horizon=model.spec.horizon,
        discount=model.spec.discount,
        termination_penalty=0.0,
    )
    engine = registry.create(common.backend, model, dtype=common.dtype, **common.options())
    rollout = chained(engine, model, seed=common.seed)
    errors: list[float] = open_loop(rollout, windows, model.normalizer.state.scale, common.seed)[
        0
    ].tolist()
    return errors


def _test_episodes(common: Common) -> int:
    return 2 if common.quick else TEST_EPISODES


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as a Markdown table."""
    last = len(next(iter(results.values()))["defect"]["errors"])
    steps = sorted({min(step, last) for step in SHOWN_STEPS})
    heads = " | ".join(f"{robot}, error at {step}" for robot in ROBOTS for step in steps)
    lines = [
        f"| dynamics | weak ankle | steps up | healthy | {heads} | training |",
        "|---" * (5 + len(ROBOTS) * len(steps)) + "|",
    ]
    for arm, row in results.items():
        errors = " | ".join(
            f"{row[robot]['errors'][step - 1]:.3f}" for robot in ROBOTS for step in steps
        )
        seconds = row["finetune_seconds"]
        lines.append(
            f"| {arm} | {shown(row['defect']['score'])} | {row['defect']['length']:.0f} "
            f"| {shown(row['healthy']['score'])} | {errors} "
            f"| {'-' if seconds is None else f'{seconds:.0f} s'} |"
        )
    return lines


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Error at the last step on the robot that was adapted to, and on the old one."""
    from matplotlib.figure import Figure

    from dmpc_fast.evaluation.figure_file import save_figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(results))
    for shift, robot in zip((-0.2, 0.2), ROBOTS, strict=True):
        errors = [row[robot]["errors"][-1] for row in results.values()]
        axes.bar(places + shift, errors, 0.38, label=robot)
    axes.set_xticks(places, list(results), rotation=25, ha="right")
    axes.set(ylabel="median error at the last step")
    axes.legend()
    save_figure(figure, path, dpi=120)
