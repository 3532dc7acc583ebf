"""Errors of dynamics models on recorded action sequences, their own predictions fed back."""

from __future__ import annotations

import numpy as np

from dmpc_fast.data.windows import Windows
from dmpc_fast.rivals.step_models import Rollout

STARTS = 400


def open_loop(
    rollout: Rollout, windows: Windows, scale: np.ndarray, seed: int
) -> tuple[np.ndarray, float, np.ndarray]:
    """Median error by step (K,), that of unrelated states, and how many starts reach each step (K,).

    Errors are root mean squares over dimensions, in standard deviations `scale` (S,). Starts are
    drawn where at least half of the steps follow, so the last medians are over fewer; a step that
    none reaches has the error of the last that one did.
    """
    rng = np.random.default_rng([seed, 3])
    steps = windows.horizon
    lengths = np.diff(windows.store.offsets)[windows.episodes]
    left = np.repeat(lengths, lengths) - windows.ages
    most = min(steps // 2, int(left.max()))
    long = np.flatnonzero(left >= most)
    chosen = rng.choice(long, min(STARTS, len(long)), replace=False)
    batch = windows.batch(chosen)
    predicted = rollout(batch.states[:, -1], batch.actions)
    squares = np.square((predicted - batch.next_states) / scale).mean(-1)
    errors = np.where(batch.valid, np.sqrt(squares), np.nan)
    counts = batch.valid.sum(0)
    known = [column[~np.isnan(column)] for column in errors.T]
    medians = np.array([np.median(column) if column.size else np.nan for column in known])
    reached = int(np.flatnonzero(counts)[-1])
    medians[reached + 1 :] = medians[reached]
    states = batch.next_states[batch.valid]
    others = states[rng.permutation(len(states))]
    apart = np.sqrt(np.square((states - others) / scale).mean(-1))
    return medians, float(np.median(apart)), counts
