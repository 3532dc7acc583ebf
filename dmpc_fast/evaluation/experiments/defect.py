"""Walker2d with a weak ankle: its play data, models adapted to it, and the best a model could do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np

from dmpc_fast.backends import registry
from dmpc_fast.backends.base import CandidateGroup, PlanRequest
from dmpc_fast.evaluation.collect import collect
from dmpc_fast.evaluation.drive import drive
from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.experiments.arms import Common
from dmpc_fast.evaluation.experiments.trained import Trained, trained
from dmpc_fast.evaluation.truth import TrueFutures
from dmpc_fast.model_file import load_model
from dmpc_fast.planning.planner import Planner

MODEL, TASK = "walker2d", "Walker2d-v5"
#: The paper's defect: the right ankle's torque is limited.
DEFECT = "actuator[foot_joint].ctrlrange=-0.5,0.5"
#: Episodes of play data; the last is the paper's.
PLAY_EPISODES = (1, 5, 20, 100)
#: Seeds of episodes of play data, and of those that prediction errors are measured on; neither are
#: those of an evaluation.
PLAY_SEED, TEST_SEED = 100, 1000


def play_episodes(common: Common) -> tuple[int, ...]:
    """Amounts of play data, the least first."""
    return PLAY_EPISODES[:2] if common.quick else PLAY_EPISODES


def play_data(common: Common, episodes: int) -> str:
    """Id of a dataset of the unadapted planner on the defective robot, recorded if it is not there.

    More episodes begin with the same ones.
    """
    return recorded(common, "defect", episodes, (DEFECT,), PLAY_SEED)


def recorded(common: Common, label: str, episodes: int, modify: Sequence[str], seed: int) -> str:
    """Id of a dataset of the unadapted planner on a robot changed by `modify`, recorded if it is not
    there. label: what no other `modify` and `seed` have."""
    sha256 = load_model(common.model(MODEL)).sha256
    dataset = f"play-{sha256[:8]}/walker2d-{label}/{_play_name(common, episodes)}-v0"
    # It is there as a whole or not at all.
    with contextlib.suppress(FileExistsError):
        collect(
            TASK,
            dataset,
            model=common.model(MODEL),
            episodes=episodes,
            seed=seed,
            backend=common.backend,
            dtype=common.dtype,
            num_samples=common.num_samples,
            num_elites=common.num_elites,
            modify=modify,
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


def adapted_model(common: Common, episodes: int) -> Trained:
    """A model whose dynamics were fine-tuned on so many play episodes, made if it is not there."""
    return trained(
        common,
        "finetune",
        common.model(MODEL),
        play_data(common, episodes),
        steps=common.finetune_steps,
    )


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
