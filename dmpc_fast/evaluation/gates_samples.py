"""What gates look at: student and teacher at the same states, with the same and with other noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dmpc_fast.backends.base import Backend, CandidateGroup, PlanRequest
from dmpc_fast.data.episodes import EpisodeStore
from dmpc_fast.data.windows import WindowBatch, Windows, split_episodes
from dmpc_fast.philox import MAX_ROBOT
from dmpc_fast.spec import ModelSpec, SamplerSpec

#: Windows read at a time while looking for whole ones.
CHUNK_WINDOWS = 4096
#: Candidates that one request holds at most, over its starts.
CHUNK_CANDIDATES = 1024


@dataclass(frozen=True)
class Contestant:
    """A model on a backend; the samplers replace the file's where they are not None."""

    spec: ModelSpec
    backend: Backend
    proposal: SamplerSpec | None = None
    dynamics: SamplerSpec | None = None

    def steps(self, stage: str) -> int:
        """Network evaluations that the stage takes."""
        sampler = getattr(self, stage) or self.spec.stages[stage].sampler
        return 0 if sampler is None else sampler.steps

    def request(
        self, windows: WindowBatch, starts: np.ndarray, count: int, seed: int
    ) -> PlanRequest:
        """`count` candidates at each of some windows, which are `starts` in the random stream."""
        return PlanRequest(
            states=np.ascontiguousarray(windows.states[starts]),
            actions=np.ascontiguousarray(windows.past_actions[starts]),
            mask=np.ascontiguousarray(windows.mask[starts]),
            context=np.zeros((len(starts), 0), np.float32),
            seed=seed,
            robots=starts.astype(np.int64),
            plan_index=np.zeros(len(starts), np.int64),
            groups=(CandidateGroup(count, self.proposal, self.dynamics),),
        )


@dataclass(frozen=True)
class Samples:
    """M candidates at each of K states.

    Proposals (K, M, F, A): teacher_actions and student_actions from the same noise, other_actions
    the teacher's from other noise. Predictions (K, M, F, S), all of teacher_actions: teacher_states
    and student_states from the same noise, other_states the teacher's from other noise; their
    scores (K, M) are teacher_scores, student_scores and other_scores, each by its own objective.
    own_scores, own_other (K, M): of student_actions and other_actions, each by its maker's dynamics
    and objective. judged_student, judged_teacher, judged_other (K, M): of the three proposals by one
    judge, the teacher's objective on its dynamics in a single step. Such a step gives nearly the
    mean whatever the noise, so that these scores differ by the proposals and not by the dynamics.
    """

    teacher_actions: np.ndarray
    student_actions: np.ndarray
    other_actions: np.ndarray
    teacher_states: np.ndarray
    student_states: np.ndarray
    other_states: np.ndarray
    teacher_scores: np.ndarray
    student_scores: np.ndarray
    other_scores: np.ndarray
    own_scores: np.ndarray
    own_other: np.ndarray
    judged_student: np.ndarray
    judged_teacher: np.ndarray
    judged_other: np.ndarray


def draw_samples(
    student: Contestant,
    teacher: Contestant,
    windows: WindowBatch,
    *,
    candidates: int,
    seeds: tuple[int, int],
    on_starts: Callable[[int], object] | None = None,
) -> Samples:
    """Sample, predict and score `candidates` at each window's present state.

    seeds: of the noise that student and teacher share, and of the teacher's other noise. on_starts:
    called with the number of starts done since the last call.
    """
    parts = []
    at_once = max(1, CHUNK_CANDIDATES // candidates)
    for first in range(0, len(windows.states), at_once):
        starts = np.arange(first, min(first + at_once, len(windows.states)))
        parts.append(_draw(student, teacher, windows, starts, candidates, seeds))
        if on_starts is not None:
            on_starts(len(starts))
    names = [field.name for field in dataclasses.fields(Samples)]
    return Samples(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def _draw(
    student: Contestant,
    teacher: Contestant,
    windows: WindowBatch,
    starts: np.ndarray,
    count: int,
    seeds: tuple[int, int],
) -> Samples:
    own = student.request(windows, starts, count, seeds[0])
    same, other = (teacher.request(windows, starts, count, seed) for seed in seeds)
    actions = teacher.backend.sample(same)
    proposed = student.backend.sample(own)
    others = teacher.backend.sample(other)

    judge = dataclasses.replace(teacher, dynamics=SamplerSpec.uniform(1))
    judging = judge.request(windows, starts, count, seeds[0])

    def predicted(
        who: Contestant, request: PlanRequest, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        states = who.backend.predict(request, actions)
        return states, who.backend.score(request, states, actions)[0]

    teacher_states, teacher_scores = predicted(teacher, same, actions)
    student_states, student_scores = predicted(student, own, actions)
    other_states, other_scores = predicted(teacher, other, actions)
    return Samples(
        teacher_actions=actions,
        student_actions=proposed,
        other_actions=others,
        teacher_states=teacher_states,
        student_states=student_states,
        other_states=other_states,
        teacher_scores=teacher_scores,
        student_scores=student_scores,
        other_scores=other_scores,
        own_scores=predicted(student, own, proposed)[1],
        own_other=predicted(teacher, other, others)[1],
        judged_student=predicted(judge, judging, proposed)[1],
        judged_teacher=predicted(judge, judging, actions)[1],
        judged_other=predicted(judge, judging, others)[1],
    )


def open_loop_errors(
    who: Contestant, windows: WindowBatch, scale: np.ndarray, seed: int
) -> np.ndarray:
    """Error of the states predicted for the data's own actions: (K, F).

    Root mean square over dimensions in units of `scale` (S,), one prediction for each window.
    """
    starts = np.arange(len(windows.states))
    request = who.request(windows, starts, 1, seed)
    actions = np.ascontiguousarray(windows.actions[:, None])
    states = who.backend.predict(request, actions)[:, 0]
    error = (states.astype(np.float64) - windows.next_states) / scale
    return np.sqrt(np.square(error).mean(-1))


def whole_windows(windows: Windows, count: int, seed: int, *, least: int = 0) -> WindowBatch:
    """`count` windows, drawn at random, whose F steps all lie within the data.

    least: so many will do where there are no more; 0: all `count` must be there. Raises ValueError
    where there are fewer.
    """
    if not 1 <= count <= MAX_ROBOT + 1:
        raise ValueError(f"starts must be from 1 to {MAX_ROBOT + 1}, got {count}")
    order = np.random.default_rng(seed).permutation(len(windows))
    found = np.zeros(0, np.int64)
    for first in range(0, len(order), CHUNK_WINDOWS):
        indices = order[first : first + CHUNK_WINDOWS]
        found = np.concatenate([found, indices[windows.batch(indices).valid.all(1)]])
        if len(found) >= count:
            return windows.batch(found[:count])
    if least and len(found) >= least:
        return windows.batch(found)
    raise ValueError(
        f"the data hold {len(found)} windows of {windows.horizon} whole steps, but {count} starts "
        "are wanted"
    )


def held_out_episodes(store: EpisodeStore, spec: ModelSpec) -> np.ndarray | None:
    """Episodes that the model of `spec` was validated on; None if it was not made from these data
    or all of them were learned from."""
    made = spec.provenance
    settings = made.get("training")
    if made.get("datasets") != list(store.dataset_ids) or not isinstance(settings, dict):
        return None
    fraction, seed = settings.get("validation_fraction"), settings.get("seed")
    if not isinstance(fraction, float) or not 0 < fraction < 1 or not isinstance(seed, int):
        return None
    return split_episodes(store, fraction, seed)[1]
