"""Where sampling stops finding good actions: more and more action dimensions, up to an Ant and teams.

Ant-v5 (`dmpc_fast.evaluation.ant`) has no data of its own here: open-loop gaits are searched for,
played with noise and recorded, and a model is trained on them. Then, at states that planners visit,
how far the best of N true candidates gets towards what a strong search with MuJoCo itself finds; and
what N candidates are worth to the planner, with its own dynamics and with MuJoCo's.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.backends import registry
from dmpc_fast.data.minari import load_episodes
from dmpc_fast.evaluation import ant, best_of
from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.evaluation.experiments.episode_scores import (
    planner_scores,
    score_summary,
    shown,
)
from dmpc_fast.evaluation.experiments.trained import Trained, trained
from dmpc_fast.evaluation.gaits import Gait, collect_gaits, search_gaits
from dmpc_fast.evaluation.rival_planners.episodes import drive_episodes
from dmpc_fast.evaluation.rival_planners.searches import SampleScoreRank
from dmpc_fast.evaluation.rival_planners.world import World
from dmpc_fast.evaluation.starts import drive_for_starts
from dmpc_fast.evaluation.truth import TrueFutures
from dmpc_fast.model_file import load_model
from dmpc_fast.planning.planner import Planner

ANT = "ant"
TASKS = {
    "hopper": "Hopper-v5",
    "walker2d": "Walker2d-v5",
    "halfcheetah": "HalfCheetah-v5",
    ANT: ant.TASK,
}
#: Candidates of the best-of-N curves and of the planners, teams of Ants, and starts a task.
COUNTS, TEAMS, STARTS = (1, 4, 16, 64, 256, 1024), (2, 4, 8), 32
PLANNED, ORACLE = (1, 4, 16, 64, 256), (4, 16, 64)
#: Of the data: rounds of the search for gaits, steps that a gait is judged by, episodes, their steps.
ROUNDS, JUDGED_STEPS, EPISODES, EPISODE_STEPS = 15, 100, 200, 500
#: Data are recorded with other seeds than episodes are evaluated with.
DATA_SEED = 100
TRAIN_STEPS = 6000
#: Ant's control period is 0.05 s: half of the others' steps look as far ahead, and further.
ANT_MODEL: dict[str, Any] = {
    "preset": "small",
    "horizon": 16,
    "stage_options": {"patch": 4},
    "return_temperature": 0.3,
    "recommended": {"num_samples": 64, "action_chunk": 2},
}


def run(common: Common) -> dict[str, dict[str, Any]]:
    """The data, the model, the curves of every task, then planners of Ant; the oracle's last."""
    folder = common.out / "action-sizes"
    made = _ant_model(common)
    settings = {**common.described(), "model_sha256": load_model(made.path).sha256}
    arms = [Arm("ant-data", {**settings, "data": _sizes(common)}, lambda: _data(common, made))]
    for name in TASKS if not common.quick else ("hopper", ANT):
        path = made.path if name == ANT else common.model(name)
        own = {
            **settings,
            "model_sha256": load_model(path).sha256,
            "counts": _counts(common),
            "starts": _starts(common),
        }
        arms.append(
            Arm(f"{name}-best-of", own, functools.partial(_best_of, common, path, TASKS[name]))
        )
    for kind, counts, measure in (
        ("planner", PLANNED, _planner),
        ("oracle", ORACLE, _oracle),
    ):
        for count in counts[: 1 if common.quick else None]:
            given = {**settings, "kind": kind, "num_samples": count}
            arms.append(Arm(f"ant-{kind}-{count}", given, measure(common, made.path, count)))
    return run_arms(folder, arms, progress=common.progress, only=common.arms)


def _sizes(common: Common) -> list[int]:
    """Rounds, judged steps, episodes and their steps."""
    return [2, 20, 4, 60] if common.quick else [ROUNDS, JUDGED_STEPS, EPISODES, EPISODE_STEPS]


def _counts(common: Common) -> tuple[int, ...]:
    return COUNTS[:3] if common.quick else COUNTS


def _starts(common: Common) -> int:
    return 2 if common.quick else STARTS


def _ant_data(common: Common) -> str:
    """Id of the dataset of gaits, recorded if it is not there."""
    rounds, judged, episodes, steps = _sizes(common)
    dataset = f"gaits/ant/r{rounds}x{judged}-{episodes}x{steps}-v0"

    def find() -> list[Gait]:
        found = search_gaits(ant.TASK, rounds=rounds, steps=judged, seed=DATA_SEED)
        return [gait for gait, _ in found]

    # It is there as a whole or not at all.
    with contextlib.suppress(FileExistsError):
        collect_gaits(ant.TASK, dataset, find, episodes=episodes, max_steps=steps, seed=DATA_SEED)
    return dataset


def _ant_model(common: Common) -> Trained:
    if ANT in common.models:
        return Trained(common.models[ANT], None)
    steps = common.train_steps or TRAIN_STEPS
    return trained(common, "train", [_ant_data(common)], **ANT_MODEL, steps=steps)


def _data(common: Common, made: Trained) -> dict[str, Any]:
    """Returns and lengths of the episodes that the model learned from."""
    datasets = load_model(made.path).spec.provenance["datasets"]
    store = load_episodes(datasets, progress=False)
    pairs = zip(store.offsets[:-1], store.offsets[1:], strict=True)
    returns = [float(np.sum(store.rewards[a:b], dtype=np.float64)) for a, b in pairs]
    lengths = np.diff(store.offsets)
    return {
        **score_summary(ant.TASK, returns, lengths.tolist()),
        "best": max(returns),
        "training_seconds": made.seconds,
    }


def _best_of(common: Common, path: Path, task: str) -> dict[str, Any]:
    """Shares of the way to the reference, for proposals and for uniform actions, and for teams."""
    model = load_model(path)
    counts, most = _counts(common), max(_counts(common))
    planner = Planner.load(
        model,
        backend=common.backend,
        dtype=common.dtype,
        num_samples=common.num_samples,
        seed=common.seed,
        num_robots=1,
        **common.options(),
    )
    engine = registry.create(common.backend, model, dtype=common.dtype, **common.options())
    environment = make_environment(task)
    try:
        truth = TrueFutures(environment)
        starts = drive_for_starts(
            planner,
            environment,
            truth,
            episodes=min(common.episodes, _starts(common)),
            starts=_starts(common),
            seed=common.seed,
            max_steps=common.max_steps,
        ).starts
        rows: dict[str, list[np.ndarray]] = {"proposal": [], "uniform": []}
        reference = []
        for number, start in enumerate(starts):
            rng = np.random.default_rng([common.seed, 6, number])
            candidates = best_of.proposed(engine, start.request, most)
            drawn = best_of.uniform(model.spec, most, rng)
            for kind, actions in (("proposal", candidates), ("uniform", drawn)):
                rows[kind].append(best_of.true_scores(model.spec, truth, start, actions))
            reference.append(best_of.reference_score(model.spec, truth, start, candidates, rng))
    finally:
        environment.close()
    scores = {kind: np.stack(found) for kind, found in rows.items()}
    # All are measured from the mean proposal: what a planner without any choice would get.
    curve = functools.partial(
        best_of.best_of_curve,
        baseline=scores["proposal"].mean(1),
        reference=np.maximum(reference, scores["uniform"].max(1)),
        counts=counts,
    )
    dimensions = model.spec.action_size
    teams = {
        str(dimensions * m): curve(
            scores["proposal"], members=m, rng=np.random.default_rng([common.seed, 7, m])
        )
        for m in (1, *TEAMS)
    }
    alone = curve(scores["uniform"], members=1, rng=np.random.default_rng([common.seed, 8]))
    return {
        "action_size": dimensions,
        "horizon": model.spec.horizon,
        "counts": list(counts),
        "proposal": teams,
        "uniform": alone,
    }


def _planner(common: Common, path: Path, count: int) -> Callable[[], dict[str, Any]]:
    return lambda: planner_scores(common, path, ant.TASK, num_samples=count, num_elites=1)


def _oracle(common: Common, path: Path, count: int) -> Callable[[], dict[str, Any]]:
    def measure() -> dict[str, Any]:
        model = load_model(path)
        engine = registry.create(common.backend, model, dtype=common.dtype, **common.options())
        environment = make_environment(ant.TASK)
        truth = TrueFutures(environment)
        try:
            driven = drive_episodes(
                environment,
                World(
                    model.spec,
                    engine,
                    seed=common.seed,
                    dynamics=lambda _, actions: truth.roll(truth.now(), actions).states,
                ),
                SampleScoreRank(count),
                episodes=common.episodes,
                seed=common.seed,
                action_chunk=model.spec.recommended.get("action_chunk", 1),
                max_steps=common.max_steps,
            )
        finally:
            environment.close()
        return score_summary(ant.TASK, driven.returns, driven.lengths)

    return measure


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as Markdown tables: shares of what a strong search finds, then Ant's returns."""
    curves = {arm: row for arm, row in results.items() if arm.endswith("-best-of")}
    counts = next(iter(curves.values()))["counts"]
    lines = [
        f"| candidates | actions | {' | '.join(f'best of {n}' for n in counts)} |",
        "|---" * (2 + len(counts)) + "|",
    ]
    for arm, row in curves.items():
        task = arm.removesuffix("-best-of")
        rows = [(f"{task}, uniform", row["action_size"], row["uniform"])]
        for size, shares in row["proposal"].items():
            members = int(size) // row["action_size"]
            name = task if members == 1 else f"{members} x {task}"
            rows.append((name, int(size), shares))
        for name, size, shares in rows:
            cells = " | ".join(f"{100 * share:.0f} %" for share in shares)
            lines.append(f"| {name} | {size} | {cells} |")
    lines += ["", "| Ant | return | steps up |", "|---|---|---|"]
    return lines + [
        f"| {arm} | {shown(row['score'], 0)} | {row['length']:.0f} |"
        for arm, row in results.items()
        if arm not in curves
    ]


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Share of what a strong search finds over the number of candidates, by action dimensions."""
    from matplotlib.figure import Figure

    from dmpc_fast.evaluation.figure_file import save_figure

    curves = {arm: row for arm, row in results.items() if arm.endswith("-best-of")}
    columns = min(2, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4 * columns, 3 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat
    for axes, (arm, row) in zip(panels, curves.items(), strict=False):
        for size, shares in row["proposal"].items():
            axes.plot(row["counts"], [100 * share for share in shares], marker="o", label=size)
        axes.set(title=arm.removesuffix("-best-of"), xscale="log")
        axes.legend(title="actions", fontsize="small")
    figure.supxlabel("candidates N")
    figure.supylabel("% of what a strong search finds")
    save_figure(figure, path, dpi=120)
