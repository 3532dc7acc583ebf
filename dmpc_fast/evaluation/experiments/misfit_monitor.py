"""How soon the misfit monitor notices a defect, and how often it cries wolf."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.experiments.arms import Arm, Common, run_arms
from dmpc_fast.evaluation.late_change import LateChange
from dmpc_fast.evaluation.misfit import Calibration, EpisodeRecord, calibrate, levels
from dmpc_fast.evaluation.policies import PlannerPolicy, PlannerSettings, PlanTimes
from dmpc_fast.evaluation.rollouts import run_rollouts
from dmpc_fast.model_file import load_model

MODEL, TASK = "walker2d", "Walker2d-v5"
DEFECT = "actuator[foot_joint].ctrlrange=-0.5,0.5"
#: The weak actuator's place in the action.
ANKLE = 2
#: Control step before which the defect begins in mid-episode: the walker is at full speed.
LATE = 250
#: Seeds of the episodes that the monitor is calibrated on, and how many there are.
CALIBRATION_SEED, CALIBRATION_EPISODES = 0, 64
FALSE_ALARMS = 0.05
#: Control steps within which the defect should be noticed.
LIMIT = 100
#: Steps of each episode that the plot shows, and of how many it shows one.
PLOTTED, EVERY = 450, 3


class RecordingPolicy(PlannerPolicy):
    """A planner's policy that notes what it did, expected and saw."""

    def __init__(self, planner: Any) -> None:
        super().__init__(planner, PlanTimes())
        self._episode: dict[int, int] = {}
        #: By episode: the observation before each action, the action, what was expected of it.
        self._noted: dict[int, list[tuple[np.ndarray, np.ndarray, np.ndarray, int]]] = {}

    def start(self, slot: int, episode: int) -> None:
        super().start(slot, episode)
        self._episode[slot] = episode
        self._noted[episode] = []

    def act(self, slots: np.ndarray, observations: np.ndarray) -> np.ndarray:
        actions = super().act(slots, observations)
        expected = self.planner.expectation()
        for slot, observation, action in zip(slots, observations, actions, strict=True):
            # Arrays that the environment or the planner may write to again are copied.
            self._noted[self._episode[int(slot)]].append(
                (
                    np.array(observation),
                    np.array(action),
                    expected.states[slot].copy(),
                    int(expected.steps[slot]),
                )
            )
        return actions

    def episodes(self) -> list[EpisodeRecord]:
        """Records of all episodes, by their numbers, up to the last observation acted on."""
        records = []
        for _, noted in sorted(self._noted.items()):
            observations, actions, expected, steps = zip(*noted, strict=True)
            records.append(
                EpisodeRecord(
                    np.stack(observations),
                    np.stack(actions[:-1]),
                    np.stack(expected[:-1]),
                    np.array(steps[:-1]),
                )
            )
        return records


@dataclass(frozen=True)
class Condition:
    """A robot to watch: with the defect from step `begins` on, or without where None."""

    name: str
    begins: int | None

    def environment(self) -> gymnasium.Env:
        environment = make_environment(TASK)
        if self.begins is None:
            return environment
        return LateChange(environment, (DEFECT,), self.begins)


def record_episodes(
    model: Path, common: Common, condition: Condition, *, episodes: int, seed: int
) -> list[EpisodeRecord]:
    """Records of `episodes` episodes of a model's planner, episode i reset with seed + i."""
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
    policy = RecordingPolicy(settings.load(slots))
    numbers = iter(range(episodes))
    environments = [condition.environment() for _ in range(slots)]
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


def conditions(common: Common) -> list[Condition]:
    """The robots to watch: short episodes have their middle earlier."""
    late = LATE if common.max_steps is None else min(LATE, common.max_steps // 2)
    return [Condition("healthy", None), Condition("defect", 0), Condition("late", late)]


def run(common: Common) -> dict[str, dict[str, Any]]:
    """Calibrate on healthy episodes, then watch healthy and defective ones of other seeds."""
    model = common.model(MODEL)
    watched = conditions(common)
    settings = {
        **common.described(),
        "model_sha256": load_model(model).sha256,
        "modify": DEFECT,
        "begins": {condition.name: condition.begins for condition in watched},
        "calibration": [CALIBRATION_SEED, CALIBRATION_EPISODES, FALSE_ALARMS],
    }

    def measure() -> dict[str, Any]:
        healthy = record_episodes(
            model, common, watched[0], episodes=CALIBRATION_EPISODES, seed=CALIBRATION_SEED
        )
        calibration = calibrate(healthy, false_alarms=FALSE_ALARMS)
        calibration.save(common.out / "misfit" / "walker2d-calibration.json")
        result: dict[str, Any] = {"threshold": calibration.threshold}
        for condition in watched:
            records = record_episodes(
                model, common, condition, episodes=common.episodes, seed=common.seed
            )
            result[condition.name] = summary(calibration, records, condition.begins)
        return result

    (common.out / "misfit").mkdir(parents=True, exist_ok=True)
    arms = [Arm("walker2d", settings, measure)]
    return run_arms(common.out / "misfit", arms, progress=False, only=common.arms)


def summary(
    calibration: Calibration, records: list[EpisodeRecord], begins: int | None
) -> dict[str, Any]:
    """What the monitor says of episodes with a defect from step `begins` on, None without.

    early: alarms before the defect. alarms: in the other episodes. delays: control steps from the
    defect, or from the episode's start, to the alarm, None without one; negative where early.
    named: alarms at which the weak actuator had the highest level. lengths: steps watched.
    """
    start = begins or 0
    watched = [levels(calibration, record) for record in records]
    over = [np.flatnonzero(level.max(axis=1) > calibration.threshold) for level in watched]
    delays = [int(rows[0]) + 1 - start if rows.size else None for rows in over]
    late = [delay for delay in delays if delay is not None and delay > 0]
    named = [
        int(level[rows[0]].argmax()) == ANKLE
        for level, rows in zip(watched, over, strict=True)
        if rows.size and rows[0] >= start
    ]
    return {
        "episodes": len(records),
        "begins": begins,
        "early": sum(delay is not None and delay <= 0 for delay in delays),
        "alarms": len(late),
        f"alarms_within_{LIMIT}": sum(delay <= LIMIT for delay in late),
        "named": sum(named),
        "median_delay": float(np.median(late)) if late else None,
        "slowest_delay": max(late) if late else None,
        "delays": delays,
        "lengths": [len(level) for level in watched],
        # What the plot shows, to one decimal.
        "levels": [
            [round(float(v), 1) for v in level.max(axis=1)[:PLOTTED:EVERY]] for level in watched
        ],
    }


ROBOTS = {
    "healthy": "healthy",
    "defect": "weak ankle from the start",
    "late": "weak ankle from step {begins}",
}


def table(results: dict[str, dict[str, Any]]) -> list[str]:
    """The results as a Markdown table."""
    result = results["walker2d"]
    lines = [
        "| robot | episodes | false alarms | alarms | within 100 steps | ankle named "
        "| median delay | slowest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, words in ROBOTS.items():
        row = result[name]
        sound = row["begins"] is None
        false, alarms = (row["alarms"], None) if sound else (row["early"], row["alarms"])
        cells = [false, alarms, *(None if sound else row[key] for key in _DEFECT_COLUMNS)]
        shown = " | ".join("-" if cell is None else f"{cell:.0f}" for cell in cells)
        lines.append(f"| {words.format(**row)} | {row['episodes']} | {shown} |")
    return lines


_DEFECT_COLUMNS = (f"alarms_within_{LIMIT}", "named", "median_delay", "slowest_delay")


def plot(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """The highest level over the first steps of each episode, a panel for each robot."""
    from matplotlib.figure import Figure

    from dmpc_fast.evaluation.figure_file import save_figure

    result = results["walker2d"]
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    panels = figure.subplots(1, len(ROBOTS), sharex=True, sharey=True)
    for axes, (name, words) in zip(panels, ROBOTS.items(), strict=True):
        row = result[name]
        for level in row["levels"]:
            steps = EVERY * np.arange(len(level)) + 1
            axes.plot(steps, level, color="tab:red" if row["begins"] is not None else "tab:blue",
                      linewidth=0.7)  # fmt: skip
        axes.axhline(result["threshold"], color="black", linestyle="--", label="threshold")
        if row["begins"] is not None:
            axes.axvspan(row["begins"], row["begins"] + LIMIT, color="0.9", label=f"{LIMIT} steps")
        axes.set(xlabel="control step", title=words.format(**row))
    panels[0].set_ylabel("highest level")
    panels[-1].legend(loc="upper left")
    save_figure(figure, path, dpi=120)
