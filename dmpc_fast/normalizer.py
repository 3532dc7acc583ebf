"""Per-dimension statistics and the two affine maps between environment and normalised units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: A dimension whose standard deviation is below this fraction of its magnitude counts as constant.
CONSTANT_TOLERANCE = 1e-6
NAMES = ("state", "action", "reward", "value")


@dataclass(frozen=True)
class Affine:
    """normalised = (x - mean) / scale, per dimension; float32 arrays of one shape (size,)."""

    mean: np.ndarray
    scale: np.ndarray

    def normalize(self, x: Any) -> Any:
        return (x - self.mean) / self.scale

    def denormalize(self, x: Any) -> Any:
        return x * self.scale + self.mean

    @classmethod
    def from_moments(cls, mean: np.ndarray, std: np.ndarray) -> Affine:
        """Statistics with constant dimensions guarded: their scale is 1, so they map to 0."""
        mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        constant = std <= CONSTANT_TOLERANCE * np.maximum(1.0, np.abs(mean))
        return cls(mean.astype(np.float32), np.where(constant, 1.0, std).astype(np.float32))


@dataclass(frozen=True)
class Normalizer:
    """The statistics that travel with a model."""

    state: Affine
    action: Affine
    reward: Affine
    value: Affine

    def tensors(self) -> dict[str, np.ndarray]:
        """The `normalizer.` tensors of a model file."""
        result = {}
        for name in NAMES:
            affine = getattr(self, name)
            result[f"normalizer.{name}.mean"] = np.asarray(affine.mean, np.float32)
            result[f"normalizer.{name}.scale"] = np.asarray(affine.scale, np.float32)
        return result

    @classmethod
    def from_tensors(cls, tensors: dict[str, np.ndarray]) -> Normalizer:
        return cls(
            **{
                name: Affine(
                    np.asarray(tensors[f"normalizer.{name}.mean"], np.float32),
                    np.asarray(tensors[f"normalizer.{name}.scale"], np.float32),
                )
                for name in NAMES
            }
        )


def condition_vector(
    normalizer: Normalizer,
    states: np.ndarray,
    past_actions: np.ndarray,
    mask: np.ndarray,
    context: np.ndarray | None = None,
) -> np.ndarray:
    """What every stage is conditioned on, normalised, float32 (B, condition_size).

    states (B, H, S), oldest first, the last row is s_t; past_actions (B, H-1, A); mask (B, H-1),
    0 where the history lies before the episode's start; context (B, size), passed through.
    """
    count = states.shape[0]
    weights = np.concatenate([mask, np.ones((count, 1), np.float32)], axis=1)[..., None]
    parts = [
        (normalizer.state.normalize(states) * weights).reshape(count, -1),
        (normalizer.action.normalize(past_actions) * mask[..., None]).reshape(count, -1),
        mask,
    ]
    if context is not None:
        parts.append(context)
    return np.ascontiguousarray(np.concatenate(parts, axis=1), np.float32)
