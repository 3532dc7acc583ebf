"""Whether a few-step student still does what its many-step teacher did (`dmpc-fast gates`).

Both are sampled at states of the data, from the same noise; the teacher also from other noise, which
shows how far a figure moves by chance alone (the teacher-teacher split).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from dmpc_fast.assets import name_of
from dmpc_fast.backends import registry
from dmpc_fast.data.windows import Windows
from dmpc_fast.evaluation import gates_measures as measures
from dmpc_fast.evaluation.evaluate import software_versions
from dmpc_fast.evaluation.gates_bounds import MIN_VARIANCE_SAMPLES, Gate
from dmpc_fast.evaluation.gates_realized import realized_returns
from dmpc_fast.evaluation.gates_samples import (
    Contestant,
    Samples,
    draw_samples,
    held_out_episodes,
    open_loop_errors,
    whole_windows,
)
from dmpc_fast.evaluation.gates_table import table_lines
from dmpc_fast.model_file import Model, load_model
from dmpc_fast.spec import ModelSpec, SamplerSpec

#: Steps of proposal and dynamics that count as the many-step teacher (Zhou et al. 2024).
TEACHER_STEPS = (32, 10)
#: Windows on which open-loop errors are measured, if the data hold so many.
ERROR_WINDOWS = 256
#: Seeds of the shared noise and of the teacher's other noise, told from a planner's by their size.
NOISE_SEEDS = (1 << 41, (1 << 41) + 1)


@dataclass(frozen=True)
class GatesReport:
    """The gates and what they rest on: what `to_json` writes and `plot_gates` draws."""

    report: dict[str, Any]

    @property
    def passed(self) -> bool:
        """Whether every gate that is a stated target is passed."""
        return bool(self.report["passed"])

    def to_json(self) -> str:
        return json.dumps(self.report, indent=1, allow_nan=False)

    def lines(self) -> list[str]:
        """A table for a person to read."""
        return list(table_lines(self.report))


def gates(
    student: Path,
    teacher: Path,
    dataset: str | Sequence[str],
    *,
    env_id: str | None = None,
    starts: int = 64,
    candidates: int = 256,
    student_steps: tuple[int, int] | None = None,
    teacher_steps: tuple[int, int] = TEACHER_STEPS,
    episodes: int = 4,
    seed: int = 0,
    backend: str = "auto",
    dtype: str = "float32",
    threads: int | None = None,
    max_steps: int | None = None,
    progress: bool = True,
) -> GatesReport:
    """Hold a student model against its teacher at `starts` states of the data.

    Args:
        student, teacher: model files for the same robot, horizon, discount and penalty.
        dataset: Minari ids. Where the teacher was trained on just these, only the episodes that it
            was validated on are used.
        env_id: also drive `episodes` episodes with each model as its file has it, and hold predicted
            against realised returns; None leaves that out.
        candidates: drawn at each state.
        student_steps: equal DDIM steps of proposal and dynamics in place of the student file's
            samplers; the teacher itself at few steps is a control. teacher_steps: the teacher's.
        seed: of the choice of states and of the episodes driven. Other options as in `evaluate`.

    Raises:
        ValueError: the models or the data do not fit each other, or a count is out of range.
    """
    if candidates < 2 or starts < 2 or episodes < 1:
        raise ValueError(
            "starts and candidates must be at least 2 and episodes at least 1, got "
            f"{starts}, {candidates} and {episodes}"
        )
    ids = [dataset] if isinstance(dataset, str) else list(dataset)
    files = load_model(student), load_model(teacher)
    check_comparable(*files)
    few, many = (
        _contestant(model, steps, backend, dtype, threads)
        for model, steps in zip(files, (student_steps, teacher_steps), strict=True)
    )
    windows, held_out = _windows(ids, many.spec, progress)
    silent = None if progress else True
    with tqdm(total=starts, unit="start", desc="sampling", disable=silent) as bar:
        samples = draw_samples(
            few, many, whole_windows(windows, starts, seed),
            candidates=candidates, seeds=NOISE_SEEDS, on_starts=bar.update,
        )  # fmt: skip
    known = whole_windows(windows, ERROR_WINDOWS, seed + 1, least=starts)
    scales = [
        np.asarray(part.scale, np.float64)
        for part in (files[1].normalizer.action, files[1].normalizer.state)
    ]
    errors = [open_loop_errors(who, known, scales[1], NOISE_SEEDS[0]) for who in (few, many)]
    realized = None
    if env_id is not None:
        realized = {
            name: realized_returns(
                path, env_id, episodes=episodes, seed=seed, backend=backend, dtype=dtype,
                max_steps=max_steps,
            )
            for name, path in (("student", student), ("teacher", teacher))
        }  # fmt: skip
    settings = {
        "student": name_of(student),
        "student_sha256": files[0].sha256,
        "teacher": name_of(teacher),
        "teacher_sha256": files[1].sha256,
        "steps": {
            name: [who.steps("proposal"), who.steps("dynamics")]
            for name, who in (("student", few), ("teacher", many))
        },
        "datasets": ids,
        "episodes_of_data": "held out" if held_out else "all",
        "starts": starts,
        "candidates": candidates,
        "error_windows": len(known.states),
        "environment": env_id,
        "episodes": episodes if env_id is not None else 0,
        "seed": seed,
        "backend": few.backend.name,
        "dtype": dtype,
        "threads": threads,
        "max_steps": max_steps,
    }
    return GatesReport(_report(samples, errors, scales, realized, settings))


def check_comparable(student: Model, teacher: Model) -> None:
    """Raise ValueError unless both models plan for one robot and mean the same by J."""
    names = (
        "state_size", "action_size", "horizon", "history", "context", "discount",
        "termination_penalty",
    )  # fmt: skip
    for name in names:
        own, other = getattr(student.spec, name), getattr(teacher.spec, name)
        if own != other:
            raise ValueError(f"{name} is {own} in the student but {other} in the teacher")
    if teacher.spec.context:
        raise ValueError("gates need models without context: the data hold none")


def _contestant(
    model: Model, steps: tuple[int, int] | None, backend: str, dtype: str, threads: int | None
) -> Contestant:
    options = {} if threads is None else {"threads": threads}
    engine = registry.create(backend, model, dtype=dtype, **options)
    if steps is None:
        return Contestant(model.spec, engine)
    return Contestant(model.spec, engine, *(SamplerSpec.uniform(count) for count in steps))


def _windows(ids: list[str], spec: ModelSpec, progress: bool) -> tuple[Windows, bool]:
    """The data's windows, and whether they are of episodes that the teacher did not learn from."""
    from dmpc_fast.data.minari import load_episodes

    store = load_episodes(
        ids, control_period_s=spec.environment.control_period_s, progress=progress
    )
    if (store.state_size, store.action_size) != (spec.state_size, spec.action_size):
        raise ValueError(
            f"datasets {ids} have states and actions of sizes {store.state_size} and "
            f"{store.action_size}, the models {spec.state_size} and {spec.action_size}"
        )
    episodes = held_out_episodes(store, spec)
    windows = Windows(
        store,
        horizon=spec.horizon,
        history=spec.history,
        discount=spec.discount,
        termination_penalty=spec.termination_penalty,
        episodes=episodes,
    )
    return windows, episodes is not None


def _report(
    samples: Samples,
    errors: Sequence[np.ndarray],
    scales: Sequence[np.ndarray],
    realized: dict[str, Any] | None,
    settings: dict[str, Any],
) -> dict[str, Any]:
    counts = measures.sample_counts(settings["candidates"])
    agreement, own_ranks, split_ranks = measures.rank_agreement(samples)
    judged = (samples.judged_student, samples.judged_teacher, samples.judged_other)
    planned = (samples.own_scores, samples.teacher_scores, samples.own_other)
    gates = [
        Gate.of(name, figure)
        for name, figure in [
            *_trajectory_figures(samples, *scales).items(),
            ("best_of_n_proposal", measures.best_of_n_slope(*judged, counts)),
            ("best_of_n_plan", measures.best_of_n_slope(*planned, counts)),
            ("rank_agreement", agreement),
            ("prediction_error", measures.error_ratio(*errors)),
        ]
    ]
    enough = samples.teacher_actions.shape[0] * samples.teacher_actions.shape[1]
    curves = {
        "proposal": dict(zip(("student", "teacher", "split"), judged, strict=True)),
        "plan": dict(zip(("student", "teacher", "split"), planned, strict=True)),
    }
    return {
        "passed": all(gate.passed for gate in gates if gate.bound.target)
        and enough >= MIN_VARIANCE_SAMPLES,
        "enough_samples": enough >= MIN_VARIANCE_SAMPLES,
        "gates": [gate.to_json() for gate in gates],
        "best_of_n": {
            "counts": counts,
            **{
                kind: {
                    name: measures.best_of(scores, counts).mean(0).tolist()
                    for name, scores in rows.items()
                }
                for kind, rows in curves.items()
            },
        },
        "prediction_error": {
            name: {"mean": part.mean(0).tolist(), "median": np.median(part, axis=0).tolist()}
            for name, part in zip(("student", "teacher"), errors, strict=True)
        },
        "rank_correlation": {
            "student": own_ranks.round(4).tolist(),
            "split": split_ranks.round(4).tolist(),
        },
        "realized": realized,
        "settings": settings,
        "versions": software_versions(),
    }


def _trajectory_figures(
    samples: Samples, action_scale: np.ndarray, state_scale: np.ndarray
) -> dict[str, measures.Figure]:
    """Figures of proposals and predictions, in units of the data's standard deviation."""
    actions = [
        part / action_scale
        for part in (samples.student_actions, samples.teacher_actions, samples.other_actions)
    ]
    states = [
        part / state_scale
        for part in (samples.student_states, samples.teacher_states, samples.other_states)
    ]
    ratios = measures.variance_ratios(*actions)
    return {
        "proposal_paired_noise": measures.paired_noise(*actions),
        "dynamics_paired_noise": measures.paired_noise(*states),
        "variance_ratio": measures.pooled_variance_ratio(*actions),
        **{f"variance_ratio[{i}]": ratio for i, ratio in enumerate(ratios)},
        **measures.distribution_distances(*actions),
    }
