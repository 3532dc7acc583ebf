"""Walker2d with a weak ankle: its play data, models adapted to it, and the best a model could do."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from dmpc_fast.backends import registry
from dmpc_fast.backends.base import CandidateGroup, PlanRequest
from dmpc_fast.evaluation.collect import collect
from dmpc_fast.evaluation.drive import drive
from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.experiments.arms import Common, write_json
from dmpc_fast.evaluation.truth import TrueFutures
from dmpc_fast.model_file import load_model
from dmpc_fast.planning.planner import Planner

MODEL, TASK = "walker2d", "Walker2d-v5"
#: The paper's defect: the right ankle's torque is limited.
DEFECT = "actuator[foot_joint].ctrlrange=-0.5,0.5"
#: Episodes of play data; the last is the paper's, two are the fewest that it takes,
#: since fine-tuning holds one out.
PLAY_EPISODES = (2, 5, 20, 100)
#: Play data and its episodes' seeds are never those of an evaluation.
PLAY_SEED = 100


def play_episodes(common: Common) -> tuple[int, ...]:
    """Amounts of play data, the least first."""
    return PLAY_EPISODES[:2] if common.quick else PLAY_EPISODES


def play_data(common: Common, episodes: int) -> str:
    """Id of a dataset of the unadapted planner on the defective robot, recorded if it is not there.

    More episodes begin with the same ones.
    """
    sha256 = load_model(common.model(MODEL)).sha256
    dataset = f"play-{sha256[:8]}/walker2d-defect/{_play_name(common, episodes)}-v0"
    # It is there as a whole or not at all.
    with contextlib.suppress(FileExistsError):
        collect(
            TASK,
            dataset,
            model=common.model(MODEL),
            episodes=episodes,
            seed=PLAY_SEED,
            backend=common.backend,
            dtype=common.dtype,
            num_samples=common.num_samples,
            num_elites=common.num_elites,
            modify=(DEFECT,),
            batch=common.batch,
            max_steps=common.max_steps,
            planner_options=common.options(),
            progress=common.progress,
        )
    return dataset


def _play_name(common: Common, episodes: int) -> str:
    limit = f"-{common.max_steps}" if common.max_steps is not None else ""
    samples = common.num_samples or "usual"
    elites = f"-e{common.num_elites}" if common.num_elites is not None else ""
    return f"n{samples}{elites}-{common.dtype}{limit}-{episodes}"


def adapted_model(common: Common, episodes: int) -> tuple[Path, float | None]:
    """A model whose dynamics were fine-tuned on so many play episodes, made if it is not there, and
    the seconds that this took."""
    if common.finetune is None:
        raise ValueError("finetune must be given for experiments that adapt a model, got None")
    # Named by all that decides the weights: other settings must not find this one's model.
    sha256, steps = load_model(common.model(MODEL)).sha256, common.finetune_steps
    name = f"walker2d-{sha256[:8]}-{_play_name(common, episodes)}-{steps}"
    folder = common.out / "adapted" / name
    note = folder / "seconds.json"
    if not note.exists():
        dataset = play_data(common, episodes)
        before = time.perf_counter()
        # A run that was killed goes on where it was.
        common.finetune(
            common.model(MODEL),
            dataset,
            out=folder,
            steps=common.finetune_steps,
            resume=folder.exists(),
            progress=common.progress,
            **({} if common.threads is None else {"threads": common.threads}),
        )
        write_json(note, {"seconds": time.perf_counter() - before})
    return folder / "model.safetensors", json.loads(note.read_text(encoding="utf-8"))["seconds"]


def ceiling_returns(common: Common, modify: Sequence[str]) -> tuple[list[float], list[int]]:
    """Returns and lengths of episodes planned with MuJoCo itself, changed alike, as the dynamics:
    the same proposals and the same learned objective."""
    model = load_model(common.model(MODEL))
    if model.spec.history != 1:
        raise ValueError(f"the ceiling needs a model of history 1, got {model.spec.history}")
    planner = Planner.load(
        model,
        backend=common.backend,
        dtype=common.dtype,
        num_samples=common.num_samples,
        num_elites=common.num_elites,
        seed=common.seed,
        **common.options(),
    )
    environment = make_environment(TASK, modify=modify)
    returns, lengths = [], []
    try:
        planner.set_objective(true_objective(common, TrueFutures(environment)))
        for episode in range(common.episodes):
            driven = drive(
                environment,
                planner,
                seed=common.seed + episode,
                max_steps=common.max_steps,
                paced=False,
            )
            returns.append(driven.episode_return)
            lengths.append(driven.length)
    finally:
        environment.close()
    return returns, lengths


def true_objective(common: Common, truth: TrueFutures) -> Callable[..., np.ndarray]:
    """An objective for `Planner.set_objective`: the learned one on what truly follows from where the
    environment of `truth` now is."""
    model = load_model(common.model(MODEL))
    engine = registry.create(common.backend, model, dtype=common.dtype, **common.options())

    def learned_on_true_states(
        history: np.ndarray, states: np.ndarray, actions: np.ndarray
    ) -> np.ndarray:
        futures = truth.roll(truth.now(), actions)
        size = model.spec.state_size
        request = PlanRequest(
            states=np.ascontiguousarray(history[None, :, :size], np.float32),
            actions=np.zeros((1, 0, model.spec.action_size), np.float32),
            mask=np.zeros((1, 0), np.float32),
            context=np.zeros((1, model.spec.context), np.float32),
            seed=0,
            robots=np.zeros(1, np.int64),
            plan_index=np.zeros(1, np.int64),
            groups=(CandidateGroup(len(actions)),),
        )
        scores: np.ndarray = engine.score(
            request, futures.states[None], np.ascontiguousarray(actions[None], np.float32)
        )[0][0]
        return scores

    return learned_on_true_states
