"""Rewards that no model was trained for: targets of height and speed, and a hard limit.

Targets are percentiles of the state in the data that the shipped models learned from, fixed before
any planner ran on them. Every step up to the limit counts: after a fall the quantity is 0, that of a
robot on the ground.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.data.spaces import flatten_observations
from dmpc_fast.evaluation.environments import make_environment, step_limit
from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.evaluation.policies import PlannerSettings, PlanTimes
from dmpc_fast.evaluation.trace import trace_episode
from dmpc_fast.evaluation.video import write_video
from dmpc_fast.evaluation.workers import RolloutTask, rollouts
from dmpc_fast.model_file import load_model
from dmpc_fast.objectives import (
    ActionCost,
    Alive,
    GaussianTarget,
    LearnedReward,
    LearnedValue,
    QuadraticTarget,
    Speed,
    StateBound,
    Term,
    evaluate,
    to_json,
)
from dmpc_fast.planning.iterated_search import IteratedSearch
from dmpc_fast.planning.renoising import can_renoise
from dmpc_fast.statistics import mean_and_error

#: Of the paper's height reward, 5 exp(-(h - h*)^2 / (2 * 0.0005)).
VARIANCE, WEIGHT = 5e-4, 5.0
SAMPLES = (16, 64, 256)
#: Of the guided arms; chosen on four episodes of Walker2d from seed 300.
GUIDE_WEIGHT, GUIDE_VALUE = 200.0, 0.1
#: Of searching arms: first candidates for each parent.
PER_PARENT = 4


@dataclass(frozen=True)
class Target:
    """A value that one entry of a shipped model's state should have. reward: what pays for it."""

    name: str
    model: str
    task: str
    reward: GaussianTarget | Speed

    @property
    def terms(self) -> tuple[Term, ...]:
        """The objective: the reward, and staying upright; neither running nor its value."""
        return (self.reward, Alive())

    @property
    def guided(self) -> tuple[Term, ...]:
        """The same with a guide towards a narrow reward, which is nothing a few centimetres off, and
        some of the learned value, which knows how robots fall beyond the horizon."""
        guide = QuadraticTarget(self.reward.index, self.reward.target, GUIDE_WEIGHT)
        return (self.reward, guide, Alive(), LearnedValue(GUIDE_VALUE))


def _height(name: str, model: str, task: str, target: float) -> Target:
    return Target(name, model, task, GaussianTarget(0, target, VARIANCE, WEIGHT))


def _speed(name: str, target: float) -> Target:
    return Target(name, "halfcheetah", "HalfCheetah-v5", Speed(8, target))


#: Percentiles 10 (lunge), 90 (balance) and 99.9 (jump) of heights; 10 and 90 elsewhere.
TARGETS = (
    _height("walker2d-lunge", "walker2d", "Walker2d-v5", 1.054),
    _height("walker2d-balance", "walker2d", "Walker2d-v5", 1.316),
    _height("walker2d-jump", "walker2d", "Walker2d-v5", 1.500),
    _height("hopper-low", "hopper", "Hopper-v5", 1.015),
    _height("hopper-high", "hopper", "Hopper-v5", 1.485),
    _speed("halfcheetah-slow", -0.018),
    _speed("halfcheetah-fast", 6.377),
)
#: Walker2d runs, sparing its motors, and never faster than the median of its data.
LIMIT = StateBound(8, high=1.901)
SPARING: tuple[Term, ...] = (LearnedReward(), LearnedValue(), Alive(), ActionCost(0.1))


def run(common: Common) -> dict[str, dict[str, Any]]:
    """All arms, those with the usual number of candidates first."""
    return run_arms(
        common.out / "novel-reward", arms(common), progress=common.progress, only=common.arms
    )


def arms(common: Common) -> list[Arm]:
    """Every target, its task without it, height targets with a guide, the hard limit and none; then
    as many candidates in two rounds, for proposals that can be re-noised; then other counts."""
    result = []
    usual = common.num_samples or 64
    for name, terms in (("free", SPARING), ("bounded", (*SPARING, LIMIT))):
        result.append(_arm(common, f"walker2d-{name}", "walker2d", "Walker2d-v5", terms, usual))
    for model in dict.fromkeys(target.model for target in TARGETS):
        task = next(target.task for target in TARGETS if target.model == model)
        result.append(_arm(common, f"{model}-learned", model, task, None, usual))
        result += [
            _arm(common, name, model, task, terms, usual)
            for target in TARGETS
            if target.model == model
            for name, terms in _objectives_of(target)
        ]
    for target in TARGETS:
        if usual < 2 or not can_renoise(load_model(common.model(target.model)).spec):
            continue
        search = IteratedSearch(parents=max(1, usual // 2 // PER_PARENT))
        for name, terms in _objectives_of(target):
            place = (f"{name}-search", target.model, target.task, terms, usual // 2)
            result.append(_arm(common, *place, search))
    for samples in SAMPLES:
        if samples != usual:
            result += [
                _arm(common, f"{t.name}-{samples}", t.model, t.task, t.terms, samples)
                for t in TARGETS
            ]
    return result


def _objectives_of(target: Target) -> list[tuple[str, tuple[Term, ...]]]:
    plain = [(target.name, target.terms)]
    if not isinstance(target.reward, GaussianTarget):
        return plain
    return [*plain, (f"{target.name}-guided", target.guided)]


def _arm(
    common: Common,
    name: str,
    model: str,
    task: str,
    terms: Sequence[Term] | None,
    samples: int,
    search: IteratedSearch | None = None,
) -> Arm:
    path = common.model(model)
    settings = {
        **common.described(),
        "model_sha256": load_model(path).sha256,
        "environment": task,
        "objective": to_json(terms),
        "num_samples": samples,
    }
    if search is not None:
        settings["search"] = dataclasses.asdict(search)
    return Arm(name, settings, lambda: measure(common, path, task, terms, samples, search=search))


def measure(
    common: Common,
    model: Path,
    task: str,
    terms: Sequence[Term] | None,
    samples: int,
    *,
    modify: Sequence[str] = (),
    search: IteratedSearch | None = None,
) -> dict[str, Any]:
    """Run episodes under an objective; what they reach of every target of the task."""
    settings = PlannerSettings(
        model,
        common.backend,
        common.dtype,
        samples,
        num_elites=common.num_elites,
        objective=terms,
        seed=common.seed,
        options={**common.options(), **({} if search is None else {"search": search})},
    )
    spec = load_model(model).spec
    keys = spec.environment.observation_keys
    environment = make_environment(task)
    limit = step_limit(environment, common.max_steps)
    environment.close()
    slots = min(common.batch, common.episodes)
    plan = RolloutTask(
        task, tuple(modify), settings, keys, common.seed, slots, common.max_steps, record=True
    )
    episodes = []
    for rollout in rollouts(plan, workers=1, limit=common.episodes, times=PlanTimes()):
        assert rollout.recording is not None
        states = [flatten_observations(o, keys) for o in rollout.recording.observations[1:]]
        episodes.append((rollout.number, rollout, np.stack(states)))
    episodes.sort(key=lambda entry: entry[0])
    states = [entry[2] for entry in episodes]
    return {
        "return": _mean([entry[1].episode_return for entry in episodes]),
        "length": _mean([len(entry) for entry in states]),
        "targets": {t.name: reached(t.reward, states, limit) for t in TARGETS if t.task == task},
        "limit": beyond(states) if task == "Walker2d-v5" else None,
    }


def reached(
    reward: GaussianTarget | Speed, states: Sequence[np.ndarray], limit: int
) -> dict[str, Any]:
    """Over episodes of states (T, S), all `limit` steps counted: mean quantity while up, its peak,
    mean distance to the target, and the reward's undiscounted return, 0 a step after a fall for a
    reward that pays and the ground's for one that costs."""
    quantity, peak, distance, paid = [], [], [], []
    for episode in states:
        values = np.zeros(limit)
        values[: len(episode)] = episode[:, reward.index]
        quantity.append(values[: len(episode)].mean())
        peak.append(values.max())
        distance.append(np.abs(values - reward.target).mean())
        padded = np.zeros((limit, episode.shape[1]))
        padded[:, reward.index] = values
        result = evaluate(
            (reward,), padded, np.zeros((limit, 1)), discounts=np.ones(limit + 1), penalty=0.0
        )
        paid.append(float(result.scores))
    return {
        "target": reward.target,
        "quantity": _mean(quantity),
        "peak": _mean(peak),
        "distance": _mean(distance),
        "reward_return": _mean(paid),
    }


def beyond(states: Sequence[np.ndarray]) -> dict[str, Any]:
    """How far and how often episodes cross the hard limit, while the robot is up."""
    assert LIMIT.high is not None
    values = [episode[:, LIMIT.index] for episode in states]
    return {
        "high": LIMIT.high,
        "speed": _mean([v.mean() for v in values]),
        "share": _mean([(v > LIMIT.high).mean() for v in values]),
        "excess": _mean([np.maximum(v - LIMIT.high, 0).mean() for v in values]),
    }


def film(common: Common) -> list[Path]:
    """The first episode of every target, with and without a guide, and of the hard limit as a film,
    made if it is not there."""
    folder = common.out / "novel-reward" / "videos"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [
        (name, target.model, target.task, terms)
        for target in TARGETS
        for name, terms in _objectives_of(target)
    ]
    wanted.append(("walker2d-bounded", "walker2d", "Walker2d-v5", (*SPARING, LIMIT)))
    paths = []
    for name, model, task, terms in wanted[: 1 if common.quick else None]:
        paths.append(folder / f"{name}.mp4")
        if paths[-1].exists():
            continue
        trace = trace_episode(
            common.model(model),
            task,
            seed=common.seed,
            backend=common.backend,
            dtype=common.dtype,
            num_samples=common.num_samples or SAMPLES[1],
            num_elites=common.num_elites,
            objective=terms,
            max_steps=common.max_steps,
            film=True,
        )
        write_video(paths[-1], trace.frames, trace.control_period_s)
    return paths


def _mean(sample: Sequence[float]) -> list[float | None]:
    """Mean and standard error, which one episode does not have."""
    values = np.asarray(sample, np.float64)
    if len(values) == 1:
        return [float(values[0]), None]
    both = mean_and_error(values)
    error = float(both.standard_error)
    return [float(both.mean), error if math.isfinite(error) else None]


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as a Markdown table."""
    lines = [
        "| target | value | N | distance | without the reward | quantity | peak | reward's return "
        "| without | steps up |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for target in _measured_targets(results):
        base = results[f"{target.model}-learned"]["targets"][target.name]
        others = (f"{target.name}-{samples}" for samples in SAMPLES)
        guided = f"{target.name}-guided"
        for name in (
            target.name, f"{target.name}-search", guided, f"{guided}-search", *others
        ):  # fmt: skip
            if name not in results:
                continue
            row = results[name]["targets"][target.name]
            settings = results[name]["settings"]
            label = f"{target.name}, guided" if name.startswith(guided) else target.name
            count = settings["num_samples"]
            shown = f"{count} + {count}" if "search" in settings else f"{count}"
            lines.append(
                f"| {label} | {target.reward.target:g} | {shown} "
                f"| {_shown(row['distance'], 3)} | {_shown(base['distance'], 3)} "
                f"| {_shown(row['quantity'], 3)} | {_shown(row['peak'], 3)} "
                f"| {_shown(row['reward_return'], 0)} | {_shown(base['reward_return'], 0)} "
                f"| {_shown(results[name]['length'], 0)} |"
            )
    limits = [n for n in ("walker2d-learned", "walker2d-free", "walker2d-bounded") if n in results]
    if not limits:
        return lines
    lines += [
        "",
        "| hard limit | speed | share beyond | excess | return |",
        "|---|---|---|---|---|",
    ]
    for name in limits:
        part = results[name]["limit"]
        lines.append(
            f"| {name} | {_shown(part['speed'], 2)} | {_shown(part['share'], 3)} "
            f"| {_shown(part['excess'], 3)} | {_shown(results[name]['return'], 0)} |"
        )
    return lines


def _measured_targets(results: dict[str, dict[str, Any]]) -> list[Target]:
    """Targets whose usual arm was measured, and its task without the new reward."""
    return [t for t in TARGETS if t.name in results and f"{t.model}-learned" in results]


def _shown(value: Sequence[float | None], digits: int) -> str:
    mean, error = value
    return f"{mean:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Mean distance to each target, with the new reward and without."""
    from matplotlib.figure import Figure

    from dmpc_fast.evaluation.figure_file import save_figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    targets = _measured_targets(results)
    places = np.arange(len(targets))
    base = [results[f"{t.model}-learned"]["targets"][t.name]["distance"] for t in targets]
    new = [results[t.name]["targets"][t.name]["distance"] for t in targets]
    for shift, rows, label in ((-0.2, base, "without"), (0.2, new, "with the new reward")):
        errors = [row[1] or 0.0 for row in rows]
        axes.bar(places + shift, [row[0] for row in rows], 0.38, yerr=errors, label=label)
    axes.set_xticks(places, [t.name for t in targets], rotation=25, ha="right")
    axes.set(ylabel="mean distance to the target", yscale="log")
    axes.legend()
    save_figure(figure, path, dpi=120)
