"""Checks of what a user hands to the planner: nothing that is wrong reaches a plan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

#: So many numbers Python checks faster than NumPy, whose code a plan has driven out of the caches.
FEW = 1024


def integer(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int from `low` to `high`, or ValueError."""
    valid = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not valid or not low <= value <= high:
        raise ValueError(f"{name} must be an integer from {low} to {high}, got {value!r}")
    return int(value)


def vectors(name: str, value: Any, robots: int | None, size: int) -> np.ndarray:
    """Finite numbers of shape (size,), or (robots, size) where there are several robots.

    Returns a new float32 array (robots or 1, size). Raises ValueError naming what is wrong.
    """
    shape = (size,) if robots is None else (robots, size)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{name} must be numbers of shape {shape}: {error}") from None
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must be numbers of shape {shape}, got dtype {array.dtype}")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")
    with np.errstate(over="ignore"):
        array = np.array(array, np.float32, order="C")
    if not finite(array):
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        wrong = np.asarray(value)[where]
        raise ValueError(f"{name} must be finite in float32, got {wrong} at index {list(where)}")
    return array.reshape(robots or 1, size)


def finite(array: np.ndarray) -> bool:
    """Whether every number is finite."""
    if array.size > FEW:
        return bool(np.isfinite(array).all())
    return all(map(math.isfinite, array.ravel().tolist()))


def flattened(
    observation: Mapping[str, Any], robots: int | None, keys: Sequence[str] | None
) -> np.ndarray:
    """A dictionary observation, or one of `robots` robots, as vectors: the parts one after another.

    keys: those of the model, in order (``a.b`` for a nested one); None if it takes plain arrays.
    """
    if keys is None:
        raise ValueError(
            "observation must be an array, got a dictionary with keys "
            f"{sorted(map(str, observation))}"
        )
    shape = (-1,) if robots is None else (robots, -1)
    return np.concatenate([_part(observation, key, shape) for key in keys], axis=-1)


def _part(observation: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray:
    entry: Any = observation
    for name in key.split("."):
        if not isinstance(entry, Mapping) or name not in entry:
            raise ValueError(f"observation lacks the key {key!r}")
        entry = entry[name]
    array = np.asarray(entry)
    if len(shape) > 1 and array.shape[:1] != shape[:1]:
        raise ValueError(
            f"observation {key!r} must hold {shape[0]} robots, got shape {array.shape}"
        )
    return array.reshape(shape)
