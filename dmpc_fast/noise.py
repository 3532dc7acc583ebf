"""The one noise process: every cosine and sine of a noise angle in the package is in this file.

Variance-preserving cosine noise written by its angle t in [0, pi/2] (Nichol & Dhariwal 2021;
velocity prediction of Salimans & Ho 2022; trigonometric form of Lu & Song 2024):

    x_t = cos(t) x_0 + sin(t) eps        v = cos(t) eps - sin(t) x_0

The functions take NumPy arrays or torch tensors alike: cosines and sines come in as arrays made by
`cos_sin`, so that this module needs neither library's namespace.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from dmpc_fast.spec import ANGLE_FREQUENCIES, ANGLE_MAX_FREQUENCY, SamplerSpec

MAX_ANGLE = math.pi / 2
#: Angular frequencies of the features of a noise angle, float64 (ANGLE_FREQUENCIES,).
FREQUENCIES = ANGLE_MAX_FREQUENCY ** (
    np.arange(ANGLE_FREQUENCIES, dtype=np.float64) / (ANGLE_FREQUENCIES - 1)
)


def diffuse(clean: Any, noise: Any, angle: Any) -> Any:
    """x_t from x_0 and eps. `angle` broadcasts against them and has `cos` and `sin` methods or is
    a NumPy value."""
    cos, sin = _cos_sin(angle)
    return cos * clean + sin * noise


def velocity(clean: Any, noise: Any, angle: Any) -> Any:
    """The network's regression target v = cos(t) eps - sin(t) x_0."""
    cos, sin = _cos_sin(angle)
    return cos * noise - sin * clean


def denoise(noisy: Any, velocity: Any, angle: Any) -> Any:
    """The denoised estimate cos(t) x_t - sin(t) v; also the consistency function f(x_t, t)."""
    cos, sin = _cos_sin(angle)
    return cos * noisy - sin * velocity


def rotate(noisy: Any, velocity: Any, angle: Any, target: Any) -> Any:
    """A deterministic (DDIM) step from `angle` to `target`: cos(t-s) x_t - sin(t-s) v."""
    cos, sin = _cos_sin(angle - target)
    return cos * noisy - sin * velocity


def _cos_sin(angle: Any) -> tuple[Any, Any]:
    if hasattr(angle, "cos"):
        return angle.cos(), angle.sin()
    return np.cos(angle), np.sin(angle)


class SamplerRow(NamedTuple):
    """One network evaluation and update: x <- a x + b v(x, t, s) + noise eps.

    t: angle of x. s: angle that the network is asked to jump to (its second angle input; 0 for the
    consistency rule, whose jump always ends at 0 before fresh noise is added).
    """

    t: float
    s: float
    a: float
    b: float
    noise: float


def compile_sampler(sampler: SamplerSpec) -> tuple[SamplerRow, ...]:
    """Rows of a sampler, in float64. Row i uses random-stream step i + 1 for its fresh noise."""
    rows = []
    following = (*sampler.angles[1:], 0.0)
    for t, s in zip(sampler.angles, following, strict=True):
        if sampler.rule == "ddim":
            rows.append(SamplerRow(t, s, math.cos(t - s), -math.sin(t - s), 0.0))
        else:
            a, b = math.cos(s) * math.cos(t), -math.cos(s) * math.sin(t)
            rows.append(SamplerRow(t, 0.0, a, b, math.sin(s)))
    return tuple(rows)


def angle_features(angle: Any) -> Any:
    """Fourier features of a noise angle: (..., ) -> (..., 2 x ANGLE_FREQUENCIES), sines first.

    Takes a float or NumPy array and returns float64; torch callers use `FREQUENCIES`.
    """
    phase = np.asarray(angle, dtype=np.float64)[..., None] * FREQUENCIES
    return np.concatenate([np.sin(phase), np.cos(phase)], axis=-1)
