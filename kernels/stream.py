"""The residual stream of tokens between ops: how a tile of it is found, read and normalised.

The stream is (B, C, T, W) float32: robots, candidates of a group, tokens, width. It may be split:
its value is then `x` plus the sum of `parts` (P, B, C, T, W), the updates of one op whose work was
shared by P programs. Whoever reads it next adds them up, always in the same order.

A tile holds whole candidates of one robot: BLOCK_R rows, BLOCK_T of them for each candidate.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

EPSILON = tl.constexpr(1e-5)


@triton.jit
def tile_rows(tile, count, TOKENS: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_R: tl.constexpr):
    """Candidate and token of each row (BLOCK_R,) of a tile, and whether there is such a row."""
    lane = tl.arange(0, BLOCK_R)
    candidate = tile * (BLOCK_R // BLOCK_T) + lane // BLOCK_T
    token = lane % BLOCK_T
    return candidate, token, (candidate < count) & (token < TOKENS)


@triton.jit
def stream_offsets(
    robot, candidate, token, valid, count, TOKENS: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Offsets and mask (BLOCK_R, BLOCK_W) of a tile's rows in the stream."""
    column = tl.arange(0, BLOCK_W)
    row = (robot.to(tl.int64) * count + candidate) * TOKENS + token
    offsets = row[:, None] * WIDTH + column[None, :]
    return offsets, valid[:, None] & (column < WIDTH)[None, :]


@triton.jit
def load_stream(x, parts, part_stride, offsets, mask, PARTS: tl.constexpr):
    """The stream's value at a tile; `parts` is not read where PARTS is 0."""
    value = tl.load(x + offsets, mask, other=0.0)
    for part in tl.static_range(PARTS):
        value += tl.load(parts + part * part_stride + offsets, mask, other=0.0)
    return value


@triton.jit
def load_vector(pointer, WIDTH: tl.constexpr, BLOCK_W: tl.constexpr):
    """(BLOCK_W,) of which WIDTH are read and the rest is 0."""
    column = tl.arange(0, BLOCK_W)
    return tl.load(pointer + column, column < WIDTH, other=0.0)


@triton.jit
def normalised(value, modulation, WIDTH: tl.constexpr, BLOCK_W: tl.constexpr):
    """Layer norm of rows (BLOCK_R, BLOCK_W), modulated by a shift and a scale (WIDTH each)."""
    inside = (tl.arange(0, BLOCK_W) < WIDTH)[None, :]
    mean = tl.sum(value, axis=1) / WIDTH
    centred = tl.where(inside, value - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, axis=1) / WIDTH
    normal = centred * (1.0 / tl.sqrt(variance + EPSILON))[:, None]
    shift = load_vector(modulation, WIDTH, BLOCK_W)
    scale = load_vector(modulation + WIDTH, WIDTH, BLOCK_W)
    return normal * (1.0 + scale)[None, :] + shift[None, :]


def stream_reference(x: Tensor, parts: Tensor) -> Tensor:
    """The stream's value (B, C, T, W)."""
    return x + parts.sum(0)


def normalised_reference(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """(B, C, T, W) normalised and modulated by (B, W) each."""
    normal = functional.layer_norm(x, x.shape[-1:], eps=EPSILON.value)
    return normal * (1 + scale[:, None, None]) + shift[:, None, None]


def no_parts(x: Tensor) -> Tensor:
    """The parts of a stream that is not split: (0, B, C, T, W)."""
    return torch.empty((0, *x.shape), dtype=x.dtype, device=x.device)
