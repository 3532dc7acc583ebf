"""How soon the misfit monitor notices a defect, and how often it cries wolf."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.evaluation.misfit import EpisodeErrors, calibrate, levels
from dmpc_fast.evaluation.policies import PlannerPolicy, PlannerSettings, PlanTimes
from dmpc_fast.evaluation.rollouts import run_rollouts
from dmpc_fast.model_file import load_model

MODEL, TASK = "walker2d", "Walker2d-v5"
DEFECT = "actuator[foot_joint].ctrlrange=-0.5,0.5"
#: Seeds of the episodes that the monitor is calibrated on, and how many there are.
CALIBRATION_SEED, CALIBRATION_EPISODES = 0, 24
FALSE_ALARMS = 0.08
#: Control steps within which the defect should be noticed.
LIMIT = 100


class ErrorPolicy(PlannerPolicy):
    """A planner's policy that notes what it expected against what it then saw."""

    def __init__(self, planner: Any) -> None:
        super().__init__(planner, PlanTimes())
        self._episode: dict[int, int] = {}
        self._noted: dict[int, tuple[list[int], list[np.ndarray]]] = {}

    def start(self, slot: int, episode: int) -> None:
        super().start(slot, episode)
        self._episode[slot] = episode
        self._noted[episode] = ([], [])

    def act(self, slots: np.ndarray, observations: np.ndarray) -> np.ndarray:
        expected = self.planner.expectation()
        for slot, observation in zip(slots, observations, strict=True):
            step = int(expected.steps[slot])
            if step >= 0:
                steps, errors = self._noted[self._episode[int(slot)]]
                steps.append(step)
                errors.append(observation - expected.states[slot])
        return super().act(slots, observations)

    def episodes(self) -> list[EpisodeErrors]:
        """Errors of all episodes, by their numbers."""
        return [
            EpisodeErrors(np.array(steps), np.stack(errors))
            for _, (steps, errors) in sorted(self._noted.items())
        ]


def record_errors(
    model: Path,
    env_id: str,
    common: Common,
    *,
    episodes: int,
    seed: int,
    modify: Sequence[str] = (),
) -> list[EpisodeErrors]:
    """Errors of `episodes` episodes of a model's planner, episode i reset with seed + i."""
    slots = min(common.batch, episodes)
    settings = PlannerSettings(
        model,
        common.backend,
        common.dtype,
        common.num_samples,
        num_elites=common.num_elites,
        seed=seed,
        options=common.options(),
    )
    policy = ErrorPolicy(settings.load(slots))
    numbers = iter(range(episodes))
    environments = [make_environment(env_id, modify=modify) for _ in range(slots)]
    try:
        for _ in run_rollouts(
            environments,
            policy,
            lambda: next(numbers, None),
            seed=seed,
            keys=policy.planner.spec.environment.observation_keys,
            max_steps=common.max_steps,
        ):
            pass
    finally:
        for environment in environments:
            environment.close()
    return policy.episodes()


def run(common: Common) -> dict[str, dict[str, Any]]:
    """Calibrate on healthy episodes, then watch healthy and defective ones of other seeds."""
    model = common.model(MODEL)
    settings = {
        **common.described(),
        "model_sha256": load_model(model).sha256,
        "modify": DEFECT,
        "calibration": [CALIBRATION_SEED, CALIBRATION_EPISODES, FALSE_ALARMS],
    }

    def measure() -> dict[str, Any]:
        healthy = record_errors(
            model, TASK, common, episodes=CALIBRATION_EPISODES, seed=CALIBRATION_SEED
        )
        calibration = calibrate(healthy, false_alarms=FALSE_ALARMS)
        calibration.save(common.out / "misfit" / "walker2d-calibration.json")
        watched = {}
        for name, modify in (("healthy", ()), ("defect", (DEFECT,))):
            errors = record_errors(
                model, TASK, common, episodes=common.episodes, seed=common.seed, modify=modify
            )
            watched[name] = [levels(calibration, episode) for episode in errors]
        return summary(watched, calibration.threshold)

    (common.out / "misfit").mkdir(parents=True, exist_ok=True)
    return run_arms(common.out / "misfit", [Arm("walker2d", settings, measure)], progress=False)


def summary(watched: dict[str, list[np.ndarray]], threshold: float) -> dict[str, Any]:
    """Alarms per condition. delays: errors up to the alarm, None without one; lengths: in all."""
    result: dict[str, Any] = {"threshold": threshold}
    for name, episodes in watched.items():
        over = [np.flatnonzero(level > threshold) for level in episodes]
        delays = [int(rows[0]) + 1 if rows.size else None for rows in over]
        known = [delay for delay in delays if delay is not None]
        result[name] = {
            "episodes": len(episodes),
            "alarms": len(known),
            f"alarms_within_{LIMIT}": sum(delay <= LIMIT for delay in known),
            "median_delay": float(np.median(known)) if known else None,
            "slowest_delay": max(known) if known else None,
            "delays": delays,
            "lengths": [len(level) for level in episodes],
            # What the plot shows, to two decimals.
            "levels": [[round(float(v), 2) for v in level[:300]] for level in episodes],
        }
    return result


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as a Markdown table."""
    result = results["walker2d"]
    lines = [
        "| robot | episodes | alarms | within 100 steps | median delay | slowest |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("healthy", "defect"):
        row = result[name]
        delays = [row["median_delay"], row["slowest_delay"]]
        shown = " | ".join("-" if delay is None else f"{delay:.0f}" for delay in delays)
        lines.append(
            f"| {name} | {row['episodes']} | {row['alarms']} | {row[f'alarms_within_{LIMIT}']} "
            f"| {shown} |"
        )
    return lines


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """The monitor's level over the first steps of each episode."""
    from matplotlib.figure import Figure

    from dmpc_fast.evaluation.figure_file import save_figure

    result = results["walker2d"]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, colour in (("healthy", "tab:blue"), ("defect", "tab:red")):
        for number, level in enumerate(result[name]["levels"]):
            axes.plot(level, color=colour, linewidth=0.8, label=None if number else name)
    axes.axhline(result["threshold"], color="black", linestyle="--", label="threshold")
    axes.axvline(LIMIT, color="grey", linestyle=":", label=f"{LIMIT} steps")
    axes.set(xlabel="control step", ylabel="level", yscale="symlog")
    axes.legend()
    save_figure(figure, path, dpi=120)
