"""How much proposals differ, beside how much the data's actions do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dmpc_fast.data.episodes import EpisodeStore
from dmpc_fast.evaluation.probe import Probe
from dmpc_fast.spec import EnvironmentSpec

#: Transitions nearest to a state whose actions say how much actions vary there.
NEIGHBOURS = 32


def action_spread(
    probes: Sequence[Probe],
    environment: EnvironmentSpec,
    action_std: np.ndarray,
    nearby_std: np.ndarray | None,
) -> dict[str, Any]:
    """Standard deviation of proposals over candidates, medians over starts, per action dimension.

    action_std (A,): of all of the data's actions. nearby_std (starts, A): of the actions near each
    start, from `nearby_action_std`, or None. first_action: of the first step. plan: mean over the F
    steps. relative_*: divided by the data's. clipped: share of proposed actions at a bound.
    """
    first = np.array([probe.actions[:, 0].std(0) for probe in probes])
    whole = np.array([probe.actions.std(0).mean(0) for probe in probes])
    report: dict[str, Any] = {
        "first_action": np.median(first, axis=0).tolist(),
        "plan": np.median(whole, axis=0).tolist(),
        "relative_to_all_data": np.median(first / action_std, axis=0).tolist(),
        "relative_to_nearby_data": None,
        "clipped": float(np.mean([_clipped(probe.actions, environment) for probe in probes])),
    }
    if nearby_std is not None:
        ratio = first / np.maximum(nearby_std, 1e-6 * action_std)
        report["relative_to_nearby_data"] = np.median(ratio, axis=0).tolist()
    return report


def nearby_action_std(store: EpisodeStore, states: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Standard deviation (K, A) of the data's actions near each of `states` (K, S).

    Near are the `NEIGHBOURS` transitions with the least distance in units of `scale` (S,). Raises
    ValueError where the data hold fewer.
    """
    if len(store.actions) < NEIGHBOURS:
        raise ValueError(
            f"the data must hold at least {NEIGHBOURS} steps, got {len(store.actions)}"
        )
    last = store.offsets[1:] + np.arange(store.num_episodes)
    data = np.delete(np.asarray(store.observations), last, axis=0) / scale
    spreads = []
    for state in states / scale:
        distance = np.square(data - state).sum(1)
        nearest = np.argpartition(distance, NEIGHBOURS - 1)[:NEIGHBOURS]
        spreads.append(np.asarray(store.actions)[nearest].std(0))
    return np.array(spreads)


def _clipped(actions: np.ndarray, environment: EnvironmentSpec) -> float:
    low = [-np.inf if bound is None else bound for bound in environment.action_low]
    high = [np.inf if bound is None else bound for bound in environment.action_high]
    bounds = np.array([low, high], actions.dtype)
    return float(((actions <= bounds[0]) | (actions >= bounds[1])).mean())
