"""Weights of the dynamics' loss over the horizon: precise where the future is nearly known."""

from __future__ import annotations

import numpy as np

from dmpc_fast.data.windows import Windows
from dmpc_fast.normalizer import Normalizer

#: Windows that the spread is estimated from.
EXAMPLES = 20_000
#: Least spread that counts, in standard deviations of the data: float32 data have rounding of their own.
LEAST_SPREAD = 0.02


def unexplained_spread(windows: Windows, normalizer: Normalizer, seed: int) -> np.ndarray:
    """How much of s_{t+k} a linear function of s_t leaves open, (F,) float64 in normalised units.

    Root mean square over the features of the residual of a least-squares fit at each step k; NaN at
    steps that fewer windows reach than the fit has coefficients. Windows are drawn by `seed`.
    """
    generator = np.random.Generator(np.random.Philox(key=seed))
    count = min(EXAMPLES, len(windows))
    window = windows.batch(generator.choice(len(windows), count, replace=False))
    states = normalizer.state.normalize(window.states[:, -1]).astype(np.float64)
    following = normalizer.state.normalize(window.next_states).astype(np.float64)
    design = np.concatenate([states, np.ones((count, 1))], axis=1)
    spread = np.full(following.shape[1], np.nan)
    for step in range(len(spread)):
        real = window.valid[:, step]
        if real.sum() <= design.shape[1]:
            continue
        fit = np.linalg.lstsq(design[real], following[real, step], rcond=None)[0]
        residual = following[real, step] - design[real] @ fit
        spread[step] = np.sqrt(np.square(residual).mean())
    return spread


def step_weights(windows: Windows, normalizer: Normalizer, power: float, seed: int) -> np.ndarray:
    """Weights of mean 1 of the steps of the horizon, (F,) float32: 1 / spread^power.

    The first steps differ little from s_t, so an error that is small beside all states is as large
    as what an action changes there, and a plain mean over the horizon does not see it. Steps that
    too few windows reach weigh as the last that enough do.

    Raises ValueError where no step is reached by enough windows.
    """
    spread = unexplained_spread(windows, normalizer, seed)
    known = ~np.isnan(spread)
    if not known.any():
        raise ValueError(
            f"horizon_weighting needs more windows than the {len(windows)} of these data: at no step "
            f"are there more than the {normalizer.state.mean.size + 1} coefficients of a linear fit"
        )
    last = np.flatnonzero(known)[-1]
    spread = np.where(known, spread, spread[last])
    weights = 1 / np.maximum(spread, LEAST_SPREAD) ** power
    return (weights / weights.mean()).astype(np.float32)
