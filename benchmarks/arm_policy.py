"""A planner for arms that have to earn their place: plans for all episodes at once, seeds and episodes
those of `dmpc-fast evaluate`. A subclass says how a batch of requests becomes actions."""

from __future__ import annotations

import argparse
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.policy_episodes import run_episodes
from dmpc_fast.assets import resolve
from dmpc_fast.backends.base import CandidateGroup, PlanRequest
from dmpc_fast.evaluation.evaluate import result_of
from dmpc_fast.evaluation.policies import PlanTimes
from dmpc_fast.model_file import Model, load_model
from dmpc_fast.spec import ModelSpec


class ArmPolicy(ABC):
    """Every slot runs a chunk of its plan before the next one. For models without history."""

    def __init__(self, spec: ModelSpec, args: argparse.Namespace) -> None:
        self.spec, self.seed = spec, args.seed
        recommended = spec.recommended
        self.count = args.num_samples or recommended.get("num_samples", 64)
        self.chunk = args.action_chunk or recommended.get("action_chunk", 1)
        self.elites = args.num_elites or recommended.get("num_elites", 1)
        self.times = PlanTimes()
        self.episode: dict[int, int] = {}
        self.step: dict[int, int] = {}
        self.plans: dict[int, np.ndarray] = {}
        #: Observations of each episode, the one it began with first.
        self.seen: dict[int, list[np.ndarray]] = {}

    def start(self, slot: int, episode: int) -> None:
        self.episode[slot], self.step[slot] = episode, 0
        self.plans.pop(slot, None)
        self.seen[episode] = []

    def act(self, slots: np.ndarray, observations: np.ndarray) -> np.ndarray:
        for slot, observation in zip(slots, observations, strict=True):
            self.seen[self.episode[int(slot)]].append(observation.copy())
        due = [i for i, slot in enumerate(slots) if self.step[int(slot)] % self.chunk == 0]
        if due:
            begin = time.perf_counter()
            chosen = self.plan(self._request(slots[due], observations[due]), slots[due])
            self.times.seconds.append(time.perf_counter() - begin)
            self.times.robots.append(len(due))
            self.plans.update(zip((int(slot) for slot in slots[due]), chosen, strict=True))
        actions = [self.plans[int(slot)][self.step[int(slot)] % self.chunk] for slot in slots]
        for slot in slots:
            self.step[int(slot)] += 1
        return np.stack(actions)

    @abstractmethod
    def plan(self, request: PlanRequest, slots: np.ndarray) -> np.ndarray:
        """Actions (B, F, A) to run."""

    def last_actions(self, slots: np.ndarray) -> np.ndarray:
        """(B, A) that the slots ran last, NaN at an episode's first step."""
        unknown = np.full(self.spec.action_size, np.nan)
        return np.stack(
            [
                self.plans[int(slot)][self.chunk - 1] if int(slot) in self.plans else unknown
                for slot in slots
            ]
        )

    def _request(self, slots: np.ndarray, observations: np.ndarray) -> PlanRequest:
        robots, past = len(slots), self.spec.history - 1
        return PlanRequest(
            states=observations[:, None].astype(np.float32),
            actions=np.zeros((robots, past, self.spec.action_size), np.float32),
            mask=np.zeros((robots, past), np.float32),
            context=np.zeros((robots, self.spec.context), np.float32),
            seed=self.seed,
            robots=np.array([self.episode[int(slot)] for slot in slots]),
            plan_index=np.array([self.step[int(slot)] // self.chunk for slot in slots]),
            groups=(CandidateGroup(self.count, None, None),),
        )


def arm_parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all arms share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model")
    parser.add_argument("--env", required=True)
    parser.add_argument("--num-samples", type=int, help="candidates")
    parser.add_argument("--num-elites", type=int)
    parser.add_argument("--action-chunk", type=int)
    parser.add_argument("--episodes", type=int, default=30)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--json", type=Path, required=True)
    return parser


def plannable(name: str) -> Model:
    """The model, if an arm can plan with it: raises ValueError for history or context."""
    model = load_model(resolve(name))
    if model.spec.history != 1 or model.spec.context:
        raise ValueError(f"{name} has history or context, which these arms do not keep")
    return model


def report(policy: ArmPolicy, model: Model, args: argparse.Namespace) -> None:
    """Run the episodes, write the JSON report and print the score."""
    found = run_episodes(
        policy,
        args.env,
        episodes=args.episodes,
        batch=args.episodes,
        seed=args.seed,
        keys=model.spec.environment.observation_keys,
    )
    settings: dict[str, Any] = {
        **{name: value for name, value in vars(args).items() if name != "json"},
        "environment": args.env,
        "model_sha256": model.sha256,
    }
    result = result_of(found, policy.times, settings)
    args.json.write_text(result.to_json() + "\n", encoding="utf-8")
    score = result.summary()["score"]
    print(f"{args.model}: {score['mean']:.2f} ± {score['standard_error']:.2f}")
