"""Checkpoints: one safetensors file, replaced atomically, that a killed run continues from."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from dmpc_fast.model_file import write_atomically


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stands: `stage` after `step` optimiser steps, and all tensors to go on from."""

    stage: str
    step: int
    tensors: dict[str, Tensor]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace `path`; after a crash or on a full disk the previous checkpoint is still there."""
    from safetensors.torch import save

    metadata = {"progress": json.dumps({"stage": checkpoint.stage, "step": checkpoint.step})}
    tensors = {name: tensor.cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    write_atomically(path, save(tensors, metadata))


def load_checkpoint(path: Path) -> Checkpoint:
    """Raises ValueError when the file is not a checkpoint of this package."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            progress = json.loads((file.metadata() or {})["progress"])
            # A view of the mapped file would change when the checkpoint is replaced.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a checkpoint of a training run: {error}") from None
    return Checkpoint(progress["stage"], progress["step"], tensors)


def prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors under names that start with `prefix` and a dot."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def unprefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix` and a dot, under the rest of their names."""
    start = f"{prefix}."
    return {
        name.removeprefix(start): tensor
        for name, tensor in tensors.items()
        if name.startswith(start)
    }


def clone(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies that later optimiser steps do not change."""
    return {name: torch.clone(tensor.detach()) for name, tensor in tensors.items()}
