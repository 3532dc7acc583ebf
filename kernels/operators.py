"""What the operators of training share: shapes for tracing, products of gradients, tiles, checks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from dmpc_fast.kernels.precision import PRECISIONS
from dmpc_fast.kernels.tiles import Tile, choose_training_tile


def like(x: Tensor) -> Tensor:
    """An output of the shape of x, contiguous whatever x is."""
    return x.new_empty(x.shape)


def like_gradients(
    x: Tensor, matrix: Tensor, precision: str, sizes: tuple[int, int, int, int]
) -> list[Tensor]:
    """As the backward kernels fill them: two gradients, four operands, two shares of sums."""
    count, tokens, width = x.shape
    tiles = tile_of(x, precision).grid(1, count)[0]
    return [
        like(x),
        x.new_empty(count, 3 * width),
        *(x.new_empty(count * tokens, size, dtype=matrix.dtype) for size in sizes),
        *(x.new_empty(tiles, size) for size in (sizes[3], width)),
    ]


def matrix_gradient(gradient: Tensor, given: Tensor, wanted: bool) -> Tensor | None:
    """The gradient of a matrix, from that of its results and what it was given, over all rows."""
    return gradient.T @ given if wanted else None


def sum_of_shares(shares: Tensor, wanted: bool) -> Tensor | None:
    """The gradient of a bias, from the tiles' shares of it (tiles, C)."""
    return shares.sum(0) if wanted else None


def contiguous(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors as kernels read them."""
    return tuple(tensor.contiguous() for tensor in tensors)


def tile_of(x: Tensor, precision: str) -> Tile:
    """How the work on x (N, T, W) is cut on its device."""
    count, tokens, width = x.shape
    return choose_training_tile(
        tokens=tokens, width=width, count=count, processors=_processors(x.device),
        precision=PRECISIONS[precision].inner,
    )  # fmt: skip


@lru_cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


def check_tensors(
    x: Tensor,
    modulation: Tensor,
    mask: Tensor | None,
    weights: Mapping[str, Tensor],
    precision: str,
) -> None:
    """Refuse what a kernel would read as something else: TypeError for a dtype, ValueError for a
    shape."""
    count, tokens, width = x.shape
    shapes = [("modulation", modulation, (count, 3 * width))]
    if mask is not None:
        shapes.append(("mask", mask, (count, tokens)))
    for name, tensor, shape in shapes:
        if tensor.shape != shape:
            raise ValueError(f"{name} must have the shape {shape}, got {tuple(tensor.shape)}")
    storage = PRECISIONS[precision].storage
    expected = {"x": (x, torch.float32), "modulation": (modulation, torch.float32)}
    if mask is not None:
        expected["mask"] = (mask, torch.float32)
    for name, tensor in weights.items():
        expected[name] = (tensor, storage if tensor.ndim == 2 else torch.float32)
    for name, (tensor, dtype) in expected.items():
        if tensor.dtype != dtype:
            raise TypeError(
                f"{name} must be {dtype} in precision {precision!r}, got {tensor.dtype}"
            )
