"""Policies that users would train on the same data instead: BC, TD3+BC and IQL, by d3rlpy.

    python -m benchmarks.rival_policies --algorithm iql --dataset dmpc/hopper/medium-v0 \
      --env Hopper-v5 --json iql-hopper-medium.json

Episodes, seeds and the JSON report are those of `dmpc-fast evaluate`, so `benchmarks.score_table` and
`dmpc-fast compare` read them. Settings are those of the algorithms' authors for these tasks; only the
number of steps is smaller by default (100 000 of batch 256; the authors train for a million).
d3rlpy pins an old gymnasium that it only needs for its own environments, so install it by hand:
`pip install --no-deps d3rlpy==2.8.1 gym gym-notices`, then
`pip install structlog dataclasses-json colorama cloudpickle scikit-learn`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.policy_episodes import run_episodes
from dmpc_fast.data.episodes import EpisodeStore
from dmpc_fast.data.minari import load_episodes
from dmpc_fast.evaluation.evaluate import FIRST_EVALUATION_SEED, result_of
from dmpc_fast.evaluation.policies import PlanTimes

ALGORITHMS = ("bc", "td3+bc", "iql")


def make_algorithm(name: str) -> Any:
    """An untrained agent with its authors' settings for MuJoCo's tasks, on the CPU."""
    from d3rlpy.algos import BCConfig, IQLConfig, TD3PlusBCConfig
    from d3rlpy.preprocessing import ReturnBasedRewardScaler, StandardObservationScaler

    if name == "bc":
        config = BCConfig(
            batch_size=256, learning_rate=3e-4, observation_scaler=StandardObservationScaler()
        )
    elif name == "td3+bc":  # Fujimoto and Gu 2021, appendix B
        config = TD3PlusBCConfig(
            batch_size=256, alpha=2.5, observation_scaler=StandardObservationScaler()
        )
    else:  # Kostrikov et al. 2022, appendix B: rewards scaled by the range of the returns
        config = IQLConfig(
            batch_size=256,
            expectile=0.7,
            weight_temp=3.0,
            reward_scaler=ReturnBasedRewardScaler(multiplier=1000.0),
        )
    return config.create(device="cpu:0")


def to_d3rlpy(store: EpisodeStore) -> Any:
    """The episodes as d3rlpy wants them: observations without the one after the last action."""
    from d3rlpy.dataset import MDPDataset

    observations = np.concatenate(
        [store.episode(i).observations[:-1] for i in range(store.num_episodes)]
    )
    terminals, timeouts = np.zeros(store.num_steps), np.zeros(store.num_steps)
    last = store.offsets[1:] - 1
    terminals[last] = store.terminations
    timeouts[last] = ~store.terminations
    return MDPDataset(
        observations=observations,
        actions=np.array(store.actions),
        rewards=np.array(store.rewards)[:, None],
        terminals=terminals,
        timeouts=timeouts,
    )


def sample_by_index(buffer: Any, seed: int) -> Any:
    """The same buffer, which draws whole batches from stacked arrays.

    d3rlpy picks a batch's transitions one by one in Python, which costs milliseconds a step. All of
    them are picked once here, by its own picker, and stacked; what is drawn keeps its distribution.
    """
    from d3rlpy.dataset import TransitionMiniBatch

    picked = [
        buffer.transition_picker(episode, index)
        for episode in buffer.episodes
        for index in range(episode.transition_count)
    ]
    whole = TransitionMiniBatch.from_transitions(picked)
    names = [f.name for f in fields(whole) if f.name != "transitions"]

    rng = np.random.default_rng(seed)

    def sample_transition_batch(batch_size: int) -> Any:
        chosen = rng.integers(len(picked), size=batch_size)
        parts = {name: getattr(whole, name)[chosen] for name in names}
        return TransitionMiniBatch(transitions=[], **parts)

    buffer.sample_transition_batch = sample_transition_batch
    return buffer


class AgentPolicy:
    """A trained agent's deterministic actions, for all slots at once."""

    def __init__(self, agent: Any, low: np.ndarray, high: np.ndarray, times: PlanTimes) -> None:
        self.agent, self.low, self.high, self.times = agent, low, high, times

    def start(self, slot: int, episode: int) -> None:
        pass

    def act(self, slots: np.ndarray, observations: np.ndarray) -> np.ndarray:
        begin = time.perf_counter()
        actions = self.agent.predict(observations.astype(np.float32))
        self.times.seconds.append(time.perf_counter() - begin)
        self.times.robots.append(len(slots))
        clipped: np.ndarray = np.clip(actions, self.low, self.high).astype(np.float32)
        return clipped


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--algorithm", choices=ALGORITHMS, required=True)
    parser.add_argument("--dataset", action="append", required=True, help="repeat for a mixture")
    parser.add_argument("--env", required=True)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--training-seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--seed", type=int, default=FIRST_EVALUATION_SEED)
    parser.add_argument("--batch", type=int, default=25, help="episodes at once")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()

    import d3rlpy
    import torch

    torch.set_num_threads(1)
    d3rlpy.seed(args.training_seed)
    agent = make_algorithm(args.algorithm)
    store = load_episodes(args.dataset)
    begin = time.perf_counter()
    agent.fit(
        sample_by_index(to_d3rlpy(store), args.training_seed),
        n_steps=args.steps,
        n_steps_per_epoch=min(args.steps, 10_000),
        logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
    )
    seconds = time.perf_counter() - begin

    bounds, times = store.environment, PlanTimes()
    policy = AgentPolicy(agent, np.array(bounds.action_low), np.array(bounds.action_high), times)
    found = run_episodes(
        policy,
        args.env,
        episodes=args.episodes,
        batch=args.batch,
        seed=args.seed,
        keys=bounds.observation_keys,
    )
    settings = {
        "rival": args.algorithm,
        "library": f"d3rlpy {d3rlpy.__version__}",
        "datasets": args.dataset,
        "environment": args.env,
        "episodes": args.episodes,
        "seed": args.seed,
        "training_steps": args.steps,
        "training_seed": args.training_seed,
        "training_minutes": seconds / 60,
    }
    result = result_of(found, times, settings)
    args.json.write_text(result.to_json() + "\n", encoding="utf-8")
    score = result.summary()["score"]
    print(f"{args.algorithm} {args.dataset}: {score['mean']:.1f} ± {score['standard_error']:.1f}")


if __name__ == "__main__":
    main()
