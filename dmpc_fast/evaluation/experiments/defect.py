"""Walker2d with a weak ankle: its play data, models adapted to it, and the best a model could do."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dmpc_fast.backends import registry
from dmpc_fast.backends.base import Backend, CandidateGroup, PlanRequest
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
#: The same, as what a commanded action becomes: the ankle's place in it, and the limit.
ANKLE, TORQUE_LIMIT = 2, 0.5
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


def ceiling_returns(
    common: Common, modify: Sequence[str], *, believed: Sequence[str] | None = None
) -> tuple[list[float], list[int]]:
    """Returns and lengths of episodes planned with MuJoCo itself as the dynamics: the same proposals
    and the same learned objective.

    modify: changes of the robot. believed: of the simulator that plans; the robot's where None.
    """
    simulated = make_environment(TASK, modify=modify if believed is None else believed)
    with contextlib.closing(simulated):
        simulator = TrueFutures(simulated)
        return _returns(
            common,
            modify,
            lambda environment: true_objective(common, TrueFutures(environment), simulator),
        )


def told_returns(common: Common) -> tuple[list[float], list[int]]:
    """Returns and lengths of episodes on the defective robot, planned with the unadapted dynamics given
    what the weak ankle makes of each action: all of the defect, and nothing learned."""
    return _returns(common, (DEFECT,), lambda _: told_objective(common))


def _returns(
    common: Common, modify: Sequence[str], objective: Callable[[Any], Callable[..., np.ndarray]]
) -> tuple[list[float], list[int]]:
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
        planner.set_objective(objective(environment))
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


def true_objective(
    common: Common, truth: TrueFutures, simulator: TrueFutures
) -> Callable[..., np.ndarray]:
    """An objective for `Planner.set_objective`: the learned one on what follows in `simulator` from
    where the environment of `truth` now is."""

    def true_states(_: Backend, __: PlanRequest, actions: np.ndarray) -> np.ndarray:
        futures: np.ndarray = simulator.roll(truth.now(), actions[0]).states[None]
        return futures

    return _learned_objective(common, true_states)


def told_objective(common: Common) -> Callable[..., np.ndarray]:
    """An objective for `Planner.set_objective`: the learned one on the states that the dynamics predict
    for the torques that a weak ankle gives."""

    def told_states(engine: Backend, request: PlanRequest, actions: np.ndarray) -> np.ndarray:
        limited = actions.copy()
        limited[..., ANKLE] = limited[..., ANKLE].clip(-TORQUE_LIMIT, TORQUE_LIMIT)
        return engine.predict(request, limited)

    return _learned_objective(common, told_states)


def _learned_objective(
    common: Common, futures: Callable[[Backend, PlanRequest, np.ndarray], np.ndarray]
) -> Callable[..., np.ndarray]:
    """The learned objective on the states (1, N, F, S) that `futures` gives for actions (1, N, F, A)."""
    model = load_model(common.model(MODEL))
    engine = registry.create(common.backend, model, dtype=common.dtype, **common.options())

    def objective(history: np.ndarray, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        request = PlanRequest(
            states=np.ascontiguousarray(history[None, :, : model.spec.state_size], np.float32),
            actions=np.zeros((1, 0, model.spec.action_size), np.float32),
            mask=np.zeros((1, 0), np.float32),
            context=np.zeros((1, model.spec.context), np.float32),
            seed=0,
            robots=np.zeros(1, np.int64),
            plan_index=np.zeros(1, np.int64),
            groups=(CandidateGroup(len(actions)),),
        )
        own = np.ascontiguousarray(actions[None], np.float32)
        found = np.ascontiguousarray(futures(engine, request, own), np.float32)
        scores: np.ndarray = engine.score(request, found, own)[0][0]
        return scores

    return objective
