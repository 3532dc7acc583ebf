"""What a planner decided, state by state: the data that a policy learns from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dmpc_fast.model_file import write_atomically


class Decisions(NamedTuple):
    """conditions (M, C) as `condition_vector` gives them, and actions (M, A) in environment units;
    both float32."""

    conditions: np.ndarray
    actions: np.ndarray

    def joined(self, other: Decisions) -> Decisions:
        """These and then those."""
        return Decisions(
            np.concatenate([self.conditions, other.conditions]),
            np.concatenate([self.actions, other.actions]),
        )

    @classmethod
    def none(cls, condition_size: int, action_size: int) -> Decisions:
        return cls(
            np.zeros((0, condition_size), np.float32), np.zeros((0, action_size), np.float32)
        )


class Progress(NamedTuple):
    """Where a run stands after a round: rounds and episodes done, decisions, and the policy."""

    rounds: int
    episodes: int
    decisions: Decisions
    weights: dict[str, np.ndarray]


def save_progress(path: Path, progress: Progress) -> None:
    """Replace the file at once: a run that is killed goes on from its last whole round."""
    from safetensors.numpy import save

    tensors = {f"policy.{name}": array for name, array in progress.weights.items()}
    tensors |= {f"decisions.{name}": part for name, part in progress.decisions._asdict().items()}
    numbers = json.dumps({"rounds": progress.rounds, "episodes": progress.episodes})
    write_atomically(path, save(tensors, {"progress": numbers}))


def load_progress(path: Path) -> Progress:
    """Raises ValueError where the file is not one of `save_progress`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            numbers = json.loads(file.metadata()["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return Progress(
            int(numbers["rounds"]),
            int(numbers["episodes"]),
            Decisions(tensors["decisions.conditions"], tensors["decisions.actions"]),
            {
                name.removeprefix("policy."): array
                for name, array in tensors.items()
                if name.startswith("policy.")
            },
        )
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no checkpoint of a policy's run: {error!r}") from None
