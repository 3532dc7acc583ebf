"""Sample-score-rank against other searches, all with the same models: Walker2d and Hopper.

Every search is run twice: with as many candidates as the planner has, and with as many as take the
same processor time per plan. The second counts come from an arm of their own that is measured once.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.backends import registry
from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.evaluation.experiments.episode_scores import score_summary, shown
from dmpc_fast.evaluation.rival_planners import searches
from dmpc_fast.evaluation.rival_planners.episodes import drive_episodes
from dmpc_fast.evaluation.rival_planners.searches import Search
from dmpc_fast.evaluation.rival_planners.world import World
from dmpc_fast.evaluation.truth import TrueFutures
from dmpc_fast.model_file import Model, load_model

TASKS = {"walker2d": "Walker2d-v5", "hopper": "Hopper-v5"}
SSR = "ssr"
#: Makers of searches from a number of candidates.
SEARCHES: dict[str, Callable[[int], Search]] = {
    SSR: searches.SampleScoreRank,
    "ssr-elites": lambda count: searches.SampleScoreRank(count, elites=4),
    "random-uniform": searches.RandomShooting,
    "random-gaussian": lambda count: searches.RandomShooting(count, deviation=0.5),
    "mbop": searches.MbopTrajectoryOptimiser,
    "cem": searches.CrossEntropy,
    "cem-proposals": lambda count: searches.CrossEntropy(count, from_proposals=True),
    "mppi": searches.Mppi,
    "mppi-proposals": lambda count: searches.Mppi(count, from_proposals=True),
}
MUJOCO = "ssr-mujoco"
#: Counts at which a plan is timed, and how often; processor time grows linearly with the count.
TIMED_COUNTS, TIMED_PLANS = (32, 128), 9
#: Limits of a count, the upper one as a multiple of SSR's.
LEAST_COUNT, MOST_TIMES = 8, 16


def run(common: Common) -> dict[str, dict[str, Any]]:
    """Every search at the planner's number of candidates, then at its time per plan."""
    samples = common.num_samples or 64
    folder = common.out / "planners"
    names = tuple(TASKS)[:1] if common.quick else tuple(TASKS)
    budgets: dict[str, dict[str, Any]] = {}
    arms = []
    for name in names:
        model = load_model(common.model(name))
        settings = {**common.described(), "model_sha256": model.sha256, "num_samples": samples}
        budget = Arm(f"{name}-budget", settings, functools.partial(_budget, common, model, samples))
        budgets |= run_arms(folder, [budget], progress=False)
        counts = budgets[budget.name]["counts"]
        arms += [
            _arm(common, name, model, settings, search, samples, samples, "count")
            for search in SEARCHES
        ]
        arms += [
            _arm(common, name, model, settings, search, samples, counts[search], "time")
            for search in SEARCHES
            if not search.startswith(SSR)
        ]
        # The simulator takes longest.
        arms.append(_arm(common, name, model, settings, MUJOCO, samples, samples, "count"))
    return budgets | run_arms(folder, arms, progress=common.progress, only=common.arms)


def _arm(
    common: Common,
    name: str,
    model: Model,
    settings: dict[str, Any],
    search: str,
    samples: int,
    count: int,
    same: str,
) -> Arm:
    return Arm(
        f"{name}-{search}-{same}",
        {**settings, "search": search, "same": same, "count": count},
        lambda: _measure(common, TASKS[name], model, search, count),
    )


def _measure(common: Common, task: str, model: Model, search: str, count: int) -> dict[str, Any]:
    environment = make_environment(task)
    try:
        truth = TrueFutures(environment) if search == MUJOCO else None
        driven = drive_episodes(
            environment,
            _world(common, model, truth),
            SEARCHES[SSR if truth else search](count),
            episodes=common.episodes,
            seed=common.seed,
            action_chunk=model.spec.recommended.get("action_chunk", 1),
            max_steps=common.max_steps,
        )
    finally:
        environment.close()
    return {
        **score_summary(task, driven.returns, driven.lengths),
        "plan_ms": 1e3 * float(np.median(driven.plan_s)),
    }


def _world(common: Common, model: Model, truth: TrueFutures | None = None) -> World:
    engine = registry.create(common.backend, model, dtype=common.dtype, **common.options())
    if truth is None:
        return World(model.spec, engine, seed=common.seed)

    def simulated(_: np.ndarray, actions: np.ndarray) -> np.ndarray:
        return truth.roll(truth.now(), actions).states

    return World(model.spec, engine, seed=common.seed, dynamics=simulated)


def _budget(common: Common, model: Model, samples: int) -> dict[str, Any]:
    """Processor seconds of a plan of each search, and the counts that take as long as SSR's."""
    world = _world(common, model)
    world.observe(model.normalizer.state.mean)
    own = _seconds(world, SSR, samples)
    counts, seconds = {}, {}
    for search in SEARCHES:
        times = [_seconds(world, search, count) for count in TIMED_COUNTS]
        each = max((times[1] - times[0]) / (TIMED_COUNTS[1] - TIMED_COUNTS[0]), 1e-9)
        fixed = times[0] - each * TIMED_COUNTS[0]
        affordable = round((own - fixed) / each)
        counts[search] = min(max(LEAST_COUNT, affordable), MOST_TIMES * samples)
        seconds[search] = times
    return {"ssr_s": own, "counts": counts, "seconds": seconds}


def _seconds(world: World, search: str, count: int) -> float:
    made, rng = SEARCHES[search](count), np.random.default_rng(0)
    times = []
    for _ in range(TIMED_PLANS):
        begin = time.process_time()
        made.plan(world, None, rng)
        times.append(time.process_time() - begin)
    return float(np.median(times))


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as a Markdown table."""
    lines = [
        "| task | search | equal | candidates | score | steps up | plan (ms of processor) |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, row in results.items():
        if arm.endswith("-budget"):
            continue
        settings = row["settings"]
        lines.append(
            f"| {arm.split('-')[0]} | {settings['search']} | {settings['same']} "
            f"| {settings['count']} | {shown(row['score'])} "
            f"| {row['length']:.0f} | {row['plan_ms']:.1f} |"
        )
    return lines


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Score of each search, at equal candidates and at equal time."""
    from matplotlib.figure import Figure

    from dmpc_fast.evaluation.figure_file import save_figure

    rows = {arm: row for arm, row in results.items() if not arm.endswith("-budget")}
    tasks = list(dict.fromkeys(arm.split("-")[0] for arm in rows))
    figure = Figure(figsize=(5.5 * len(tasks), 4), layout="constrained")
    for axes, task in zip(
        np.ravel(figure.subplots(1, len(tasks), sharey=True)), tasks, strict=True
    ):
        names = [name for name in (*SEARCHES, MUJOCO) if f"{task}-{name}-count" in rows]
        for shift, same in ((-0.2, "count"), (0.2, "time")):
            found = [(i, rows.get(f"{task}-{name}-{same}")) for i, name in enumerate(names)]
            shown = [(i, row["score"]) for i, row in found if row is not None]
            axes.bar(
                [i + shift for i, _ in shown],
                [score[0] for _, score in shown],
                0.38,
                yerr=[score[1] for _, score in shown],
                label=f"equal {same}",
            )
        axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
        axes.set(title=task, ylabel="score")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=2)
    save_figure(figure, path, dpi=120)
