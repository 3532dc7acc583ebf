"""Episodes of policies that are no planner of ours: the same episodes as `dmpc-fast evaluate` runs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from dmpc_fast.evaluation.environments import make_environment
from dmpc_fast.evaluation.rollouts import Policy, Rollout, run_rollouts


def run_episodes(
    policy: Policy,
    env_id: str,
    *,
    episodes: int,
    batch: int,
    seed: int,
    keys: Sequence[str] | None,
) -> list[Rollout]:
    """Episode i is reset with seed + i; `batch` of them at once. keys: of dictionary observations."""
    environments = [make_environment(env_id) for _ in range(min(batch, episodes))]
    numbers = itertools.count()
    try:
        return list(
            run_rollouts(
                environments,
                policy,
                lambda: n if (n := next(numbers)) < episodes else None,
                seed=seed,
                keys=keys,
            )
        )
    finally:
        for environment in environments:
            environment.close()
