"""A joint model of states and actions against the pair of proposal and dynamics.

Both are scored by the pair's learned objective, as sample-score-rank plans. Then both learn from the
play data of Walker2d's weak ankle: of the pair the dynamics alone, of the joint model all there is.
What that does to scores, to predictions of their own candidates, and to the candidates themselves.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.backends import registry
from dmpc_fast.backends.base import Backend
from dmpc_fast.data.episodes import EpisodeStore
from dmpc_fast.data.minari import load_episodes
from dmpc_fast.data.windows import Windows, split_episodes
from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.experiments import defect
from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.evaluation.experiments.defect import DEFECT, MODEL, TASK, play_episodes
from dmpc_fast.evaluation.experiments.episode_scores import score_summary, shown
from dmpc_fast.evaluation.experiments.trained import named_by_content, own_training
from dmpc_fast.evaluation.rival_planners.episodes import drive_episodes
from dmpc_fast.evaluation.rival_planners.searches import SampleScoreRank
from dmpc_fast.evaluation.rival_planners.world import World
from dmpc_fast.evaluation.truth import TrueFutures
from dmpc_fast.model_file import Model, load_model
from dmpc_fast.rivals.joint_model import JointWorld, joint_sizes, joint_store
from dmpc_fast.rivals.lone_stage import lone_spec, stage_parameters, train_lone_stage
from dmpc_fast.training.run import network_tensors

PAIR, JOINT, DEEP = "pair", "joint", "joint-deep"
#: Settings of the pair's proposal that a joint model is trained by, too.
INHERITED = ("batch_size", "learning_rate", "return_temperature", "start_fraction", "start_steps")
FINETUNE_RATE = 3e-4
#: States at which proposals before and after fine-tuning are compared, with the same noise.
COMPARED_STATES, COMPARED_SAMPLES = 128, 8
#: Of so many plans on the changed robot, one's predictions are compared with what truly follows.
WATCH_EVERY = 8


def run(common: Common) -> dict[str, dict[str, Any]]:
    """Pair and joint models before and after play."""
    model = load_model(common.model(MODEL))
    steps = common.train_steps or sum(
        own_training(model)["steps"][stage] for stage in ("proposal", "dynamics")
    )
    settings = {
        **common.described(),
        "model_sha256": model.sha256,
        "datasets": model.spec.provenance["datasets"],
        "play": play_episodes(common)[-1],
        "finetune_steps": common.finetune_steps,
    }
    arms = []
    for kind in (PAIR, JOINT) if common.quick else (PAIR, JOINT, DEEP):
        trained = {} if kind == PAIR else {"train_steps": steps}
        for tuned in (False, True):
            arms.append(
                Arm(
                    f"{kind}-{'after' if tuned else 'before'}",
                    {**settings, **trained, "kind": kind, "tuned": tuned},
                    functools.partial(_measure, common, model, kind, steps, tuned),
                )
            )
    return run_arms(common.out / "joint", arms, progress=common.progress, only=common.arms)


def _measure(common: Common, model: Model, kind: str, steps: int, tuned: bool) -> dict[str, Any]:
    before, parameters = _world(common, model, kind, steps, False)
    after = before if not tuned else _world(common, model, kind, steps, True)[0]
    healthy, _ = _driven(common, after(), ())
    damaged, errors = _driven(common, after(), (DEFECT,))
    return {
        "parameters": parameters,
        "healthy": healthy,
        "defect": damaged,
        "own_errors": errors,
        "shift": _shift(common, model, before(), after()),
    }


def _world(
    common: Common, model: Model, kind: str, steps: int, tuned: bool
) -> tuple[Callable[[], World], int]:
    """A maker of the world that a model of `kind` plans in, and the numbers of its networks."""
    if kind == PAIR:
        path = common.model(MODEL)
        if tuned:
            path = defect.adapted_model(common, play_episodes(common)[-1]).path
        pair = load_model(path)
        engine = _engine(common, pair)
        size = sum(stage_parameters(pair, stage) for stage in ("proposal", "dynamics"))
        return lambda: World(pair.spec, engine, seed=common.seed), size
    joint = load_model(_joint_model(common, model, kind, steps, tuned))
    engine, own = _engine(common, model), _engine(common, joint)
    size = stage_parameters(joint, "proposal")
    return lambda: JointWorld(model.spec, engine, own, seed=common.seed), size


def _engine(common: Common, model: Model) -> Backend:
    return registry.create(common.backend, model, dtype=common.dtype, **common.options())


def _joint_model(common: Common, model: Model, kind: str, steps: int, tuned: bool) -> Path:
    """The file of a joint model, trained on the pair's data, or that fine-tuned on play data."""
    own = own_training(model)
    settings = {name: own[name] for name in INHERITED if name in own}
    settings |= {"seed": common.seed, **common.training}
    content = {
        "model": model.sha256,
        "datasets": model.spec.provenance["datasets"],
        "steps": steps,
        **settings,
    }
    if not tuned:
        store = load_episodes(model.spec.provenance["datasets"], progress=common.progress)
        windows, held_out = _split(joint_store(store), model)
        return train_lone_stage(
            named_by_content(common.out / "models", kind, content),
            "proposal",
            lone_spec(windows, "proposal", joint_sizes(model.spec, deep=kind == DEEP)),
            windows.normalizer(),
            windows,
            held_out,
            steps=steps,
            progress=common.progress,
            threads=common.threads,
            **settings,
        )
    parent = load_model(_joint_model(common, model, kind, steps, False))
    play = defect.play_data(common, play_episodes(common)[-1])
    windows, held_out = _split(joint_store(load_episodes([play], progress=common.progress)), model)
    settings = {"learning_rate": FINETUNE_RATE, "seed": common.seed, **common.training}
    content = {"parent": parent.sha256, "play": play, "steps": common.finetune_steps, **settings}
    return train_lone_stage(
        named_by_content(common.out / "models", f"{kind}-tuned", content),
        "proposal",
        parent.spec,
        parent.normalizer,
        windows,
        held_out,
        steps=common.finetune_steps,
        initial=network_tensors(parent),
        progress=common.progress,
        threads=common.threads,
        **settings,
    )


def _split(store: EpisodeStore, model: Model) -> tuple[Windows, Windows]:
    own = own_training(model)
    parts = split_episodes(store, own["validation_fraction"], own["seed"])
    make = functools.partial(
        Windows,
        store,
        horizon=model.spec.horizon,
        discount=model.spec.discount,
        termination_penalty=model.spec.termination_penalty,
    )
    return make(episodes=parts[0]), make(episodes=parts[1])


@dataclass
class _Watched:
    """A search whose world's predictions are now and then compared with what truly follows.

    errors: of each such plan, root mean squares over candidates by step (F,), in standard deviations
    `scale`; NaN past the ends of episodes.
    """

    search: SampleScoreRank
    truth: TrueFutures
    scale: np.ndarray
    errors: list[np.ndarray] = field(default_factory=list)
    _plans: int = 0

    def plan(
        self, world: World, previous: np.ndarray | None, rng: np.random.Generator
    ) -> np.ndarray:
        if self._plans % WATCH_EVERY == 0:
            # The search draws the same ones: the stream's place is that of the moment.
            actions = world.propose(self.search.count)
            futures = self.truth.roll(self.truth.now(), actions)
            squares = np.square((world.predict(actions) - futures.states) / self.scale).mean(-1)
            squares[futures.terminated] = np.nan
            known = ~np.isnan(squares)
            total = np.where(known, squares, 0.0).sum(0)
            mean = np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)
            self.errors.append(np.sqrt(mean))
        self._plans += 1
        return self.search.plan(world, previous, rng)


def _driven(
    common: Common, world: World, modify: Sequence[str]
) -> tuple[dict[str, Any], list[float | None]]:
    """Scores on the robot changed by `modify`, and the median error by step of predictions there."""
    recommended = world.spec.recommended
    samples = common.num_samples or recommended.get("num_samples", 64)
    elites = common.num_elites or recommended.get("num_elites", 1)
    scale = load_model(common.model(MODEL)).normalizer.state.scale
    environment = make_environment(TASK, modify=modify)
    search = _Watched(SampleScoreRank(samples, elites), TrueFutures(environment), scale)
    try:
        driven = drive_episodes(
            environment,
            world,
            search,
            episodes=common.episodes,
            seed=common.seed,
            action_chunk=recommended.get("action_chunk", 1),
            max_steps=common.max_steps,
        )
    finally:
        environment.close()
    columns = np.array(search.errors).T
    known = [column[~np.isnan(column)] for column in columns]
    medians = [float(np.median(column)) if column.size else None for column in known]
    return score_summary(TASK, driven.returns, driven.lengths), medians


def _shift(common: Common, model: Model, before: World, after: World) -> float:
    """How far candidates of the same noise move: root mean square, in half ranges of the actions, at
    states of the healthy robot's data."""
    store = load_episodes(model.spec.provenance["datasets"], progress=False)
    rng = np.random.default_rng([common.seed, 5])
    rows = rng.integers(0, len(store.observations), COMPARED_STATES)
    half = (before.high - before.low) / 2
    squares = []
    for episode, row in enumerate(rows):
        moved = []
        for world in (before, after):
            world.begin(episode)
            world.observe(np.asarray(store.observations[row]))
            moved.append(world.propose(COMPARED_SAMPLES))
        squares.append(np.square((moved[1] - moved[0]) / half).mean())
    return float(np.sqrt(np.mean(squares)))


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as a Markdown table."""
    last = len(next(iter(results.values()))["own_errors"])
    steps = sorted({1, min(8, last), last})
    heads = " | ".join(f"error at {step}" for step in steps)
    lines = [
        f"| model | parameters | healthy | weak ankle | steps up | {heads} | candidates moved |",
        "|---" * (6 + len(steps)) + "|",
    ]
    for arm, row in results.items():
        found = [row["own_errors"][step - 1] for step in steps]
        errors = " | ".join("-" if error is None else f"{error:.2f}" for error in found)
        lines.append(
            f"| {arm} | {row['parameters']} | {shown(row['healthy']['score'])} "
            f"| {shown(row['defect']['score'])} | {row['defect']['length']:.0f} | {errors} "
            f"| {row['shift']:.3f} |"
        )
    return lines


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Scores on the healthy and on the changed robot."""
    from matplotlib.figure import Figure

    from dmpc_fast.evaluation.figure_file import save_figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(results))
    for shift, robot in ((-0.2, "healthy"), (0.2, "defect")):
        scores = [row[robot]["score"] for row in results.values()]
        axes.bar(
            places + shift, [s[0] for s in scores], 0.38, yerr=[s[1] for s in scores], label=robot
        )
    axes.set_xticks(places, list(results), rotation=25, ha="right")
    axes.set(ylabel="score")
    axes.legend()
    save_figure(figure, path, dpi=120)
