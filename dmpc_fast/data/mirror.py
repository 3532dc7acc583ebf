"""A robot's mirror image: the symmetry by which one recorded window says as much as two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dmpc_fast.data.windows import WindowBatch


class _Side:
    """Where each dimension of a vector goes, and whether its sign turns."""

    def __init__(self, name: str, image: Sequence[str], size: int) -> None:
        """image: for each dimension the one that it takes its value from, as decimal digits, with
        a leading minus where the value is negated. Raises ValueError for anything else."""
        if len(image) != size:
            raise ValueError(f"{name} must name {size} dimensions, got {len(image)}: {list(image)}")
        digits = [entry.removeprefix("-") for entry in image]
        if sorted(digits) != sorted(map(str, range(size))):
            raise ValueError(
                f"{name} must name each dimension from 0 to {size - 1} once, got {list(image)}"
            )
        self.order = np.array([int(entry) for entry in digits])
        self.sign = np.array([-1 if e.startswith("-") else 1 for e in image], np.float32)
        if not np.array_equal(self(self(np.arange(1.0, size + 1))), np.arange(1.0, size + 1)):
            raise ValueError(f"{name} twice must give back what there was, got {list(image)}")

    def __call__(self, values: np.ndarray) -> np.ndarray:
        image: np.ndarray = values[..., self.order] * self.sign
        return image


@dataclass(frozen=True)
class Mirror:
    """States and actions of a mirrored robot. What rewards and ends an episode must not tell it."""

    states: _Side
    actions: _Side

    @classmethod
    def of(
        cls, states: Sequence[str], actions: Sequence[str], state_size: int, action_size: int
    ) -> Mirror:
        """From the images of every dimension, such as ``("1", "0", "-2")``.

        Raises ValueError where they name no symmetry of that many dimensions.
        """
        return cls(
            _Side("mirror_states", states, state_size),
            _Side("mirror_actions", actions, action_size),
        )

    def apply(self, window: WindowBatch, where: np.ndarray) -> WindowBatch:
        """`window` with the windows mirrored that `where` (B,) bool names."""
        chosen = where[:, None, None]
        images = {
            "states": self.states,
            "next_states": self.states,
            "actions": self.actions,
            "past_actions": self.actions,
        }
        return window._replace(
            **{
                name: np.where(chosen, image(getattr(window, name)), getattr(window, name))
                for name, image in images.items()
            }
        )
