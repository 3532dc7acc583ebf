"""Gymnasium spaces as the flat vectors that the package works with.

Observations are a Box or a (nested) dictionary of Boxes; every Box is flattened, and a dictionary's
vectors are joined in the sorted order of their keys. A nested key is written with dots
(``goal.position``). The keys in that order are what a model file keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

Space = spaces.Space[Any]


class DatasetError(ValueError):
    """A dataset, or a space of it, is not one that this package can use; the message says why."""


def observation_layout(space: Space, owner: str) -> tuple[tuple[str, ...] | None, int]:
    """Keys (None for a plain Box) and flat size of an observation space.

    owner: whose space it is, for errors. Raises `DatasetError` for images and for anything that is
    neither a Box nor a dictionary of Boxes.
    """
    if not isinstance(space, spaces.Dict):
        return None, _box_size(space, f"{owner}: observation space")
    leaves = list(_leaves(space, ""))
    keys = sorted(key for key, _ in leaves)
    if len(set(keys)) != len(keys):
        raise DatasetError(f"{owner}: observation keys are ambiguous when joined by dots: {keys}")
    size = sum(_box_size(leaf, f"{owner}: observation {key!r}") for key, leaf in leaves)
    return tuple(keys), size


def action_bounds(
    space: Space, owner: str
) -> tuple[tuple[float | None, ...], tuple[float | None, ...]]:
    """Lower and upper bounds per action dimension, None where there is none.

    Raises `DatasetError` unless the space is a Box of numbers.
    """
    if not isinstance(space, spaces.Box):
        raise DatasetError(
            f"{owner}: actions must be continuous (a Box), got {space}; discrete actions are not "
            "supported"
        )
    _box_size(space, f"{owner}: action space")

    def bounds(values: np.ndarray) -> tuple[float | None, ...]:
        return tuple(float(v) if np.isfinite(v) else None for v in values.reshape(-1))

    return bounds(space.low), bounds(space.high)


def flatten_observations(
    observations: Any, keys: Sequence[str] | None, *, rows: int | None = None
) -> np.ndarray:
    """Observations as float32 vectors: (S,) for one, or (rows, S) for a stack of `rows` of them.

    keys: keys of a dictionary observation, in order, or None for a plain array. Raises
    `DatasetError` naming a key that is missing, or what was given in place of a dictionary.
    """
    shape = (-1,) if rows is None else (rows, -1)
    if keys is None:
        if isinstance(observations, Mapping):
            raise DatasetError(
                f"expected a plain observation, got a dictionary with keys {sorted(observations)}"
            )
        return _vector(observations, shape)
    parts = [_vector(_lookup(observations, key), shape) for key in keys]
    return np.concatenate(parts, axis=-1)


def float32_space(space: Space) -> Space:
    """The space of the same observations or actions held in float32."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict({key: float32_space(value) for key, value in space.spaces.items()})
    assert isinstance(space, spaces.Box)
    low, high = space.low.astype(np.float32), space.high.astype(np.float32)
    return spaces.Box(low, high, dtype=np.float32)


def stack_observations(observations: Sequence[Any]) -> Any:
    """Single observations, arrays or nested dictionaries of them, stacked along a new first axis."""
    first = observations[0]
    if isinstance(first, Mapping):
        return {key: stack_observations([each[key] for each in observations]) for key in first}
    return np.stack(observations)


def _vector(values: Any, shape: tuple[int, ...]) -> np.ndarray:
    # A value beyond float32 becomes infinite here and is refused, by name, where data are checked.
    with np.errstate(over="ignore"):
        return np.asarray(values).astype(np.float32).reshape(shape)


def _lookup(observations: Any, key: str) -> Any:
    """The entry of a nested dictionary under a dotted key; a key may itself contain dots."""
    if not isinstance(observations, Mapping):
        raise DatasetError(f"expected a dictionary observation with {key!r}, got an array")
    if key in observations:
        return observations[key]
    for name, value in observations.items():
        if key.startswith(f"{name}.") and isinstance(value, Mapping):
            return _lookup(value, key[len(name) + 1 :])
    raise DatasetError(f"observation lacks the key {key!r}; it has {sorted(observations)}")


def _leaves(space: spaces.Dict, prefix: str) -> Iterator[tuple[str, Space]]:
    for key, value in space.spaces.items():
        if isinstance(value, spaces.Dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _box_size(space: Space, name: str) -> int:
    if not isinstance(space, spaces.Box):
        raise DatasetError(f"{name} must be a Box or a dictionary of Boxes, got {space}")
    image = len(space.shape) == 3 or (len(space.shape) >= 2 and space.dtype == np.uint8)
    if image:
        raise DatasetError(
            f"{name} is an image of shape {space.shape} and type {space.dtype}; "
            "images are not supported"
        )
    size = int(np.prod(space.shape))
    if size < 1:
        raise DatasetError(f"{name} must have at least one element, got shape {space.shape}")
    return size
