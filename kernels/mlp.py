"""Norm, modulation and MLP of a block as one kernel.

    y = x + sum(parts);  y + gate * out(gelu(in(norm(y) * (1 + scale) + shift)))

One program takes a tile of rows through a share of the hidden columns, a chunk at a time: a chunk is
activated and multiplied by its rows of the second matrix before the next one is computed.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from dmpc_fast.kernels.precision import product, rounded
from dmpc_fast.kernels.stream import (
    load_stream,
    load_vector,
    normalised,
    normalised_reference,
    stream_offsets,
    stream_reference,
    tile_rows,
)
from dmpc_fast.kernels.tiles import Tile, chunk


class MlpWeights(NamedTuple):
    """into (W, M) and its bias (M,), out (M, W) and its bias (W,): matrices in the storage dtype,
    biases float32."""

    into: Tensor
    into_bias: Tensor
    out: Tensor
    out_bias: Tensor


@triton.jit
def gelu(x):
    """The tanh form, by the identity (1 + tanh z) / 2 = 1 / (1 + exp(-2 z))."""
    doubled = 1.5957691216057308 * (x + 0.044715 * x * x * x)
    # Of the two ways to write it for either sign, the one that cannot overflow.
    small = tl.exp(-tl.abs(doubled))
    return x * tl.where(doubled >= 0, 1.0, small) / (1.0 + small)


@triton.jit
def _mlp_kernel(
    x, parts, part_stride, modulation, modulation_stride, into, into_bias, outward, outward_bias,
    out, out_parts, count,
    TOKENS: tl.constexpr, WIDTH: tl.constexpr, HIDDEN: tl.constexpr, PARTS: tl.constexpr,
    SPLITS: tl.constexpr, PRECISION: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    tile, split, robot = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    candidate, token, valid = tile_rows(tile, count, TOKENS, BLOCK_T, BLOCK_R)
    offsets, mask = stream_offsets(robot, candidate, token, valid, count, TOKENS, WIDTH, BLOCK_W)
    value = load_stream(x, parts, part_stride, offsets, mask, PARTS)
    own = modulation + robot.to(tl.int64) * modulation_stride
    rows = normalised(value, own, WIDTH, BLOCK_W)
    if PRECISION == "bf16":
        rows = rounded(rows, tl.bfloat16)
    if SPLITS > 1:  # noqa: SIM102 (decided by the compiler, the other one by the program)
        if split == 0:
            tl.store(out + offsets, value, mask=mask)

    CHUNKS: tl.constexpr = (HIDDEN + BLOCK_M - 1) // BLOCK_M
    SHARE: tl.constexpr = (CHUNKS + SPLITS - 1) // SPLITS
    column = tl.arange(0, BLOCK_W)
    wide = column < WIDTH
    update = tl.zeros((BLOCK_R, BLOCK_W), tl.float32)
    for number in range(split * SHARE, tl.minimum((split + 1) * SHARE, CHUNKS)):
        hidden = number * BLOCK_M + tl.arange(0, BLOCK_M)
        inside = hidden < HIDDEN
        weights = into + column[:, None] * HIDDEN + hidden[None, :]
        weights = tl.load(weights, wide[:, None] & inside[None, :], other=0.0)
        zero = tl.zeros((BLOCK_R, BLOCK_M), tl.float32)
        active = product(rows, weights, zero, PRECISION)
        active = gelu(active + tl.load(into_bias + hidden, inside, other=0.0)[None, :])
        weights = outward + hidden[:, None] * WIDTH + column[None, :]
        weights = tl.load(weights, inside[:, None] & wide[None, :], other=0.0)
        update = product(active, weights, update, PRECISION)

    bias = load_vector(outward_bias, WIDTH, BLOCK_W)
    gate = load_vector(own + 2 * WIDTH, WIDTH, BLOCK_W)
    if SPLITS > 1:
        update = (update + tl.where(split == 0, bias, 0.0)[None, :]) * gate[None, :]
        size = tl.num_programs(2).to(tl.int64) * count * TOKENS * WIDTH
        tl.store(out_parts + split * size + offsets, update, mask=mask)
    else:
        # Read again, so that a row's value need not wait in registers.
        value = load_stream(x, parts, part_stride, offsets, mask, PARTS)
        tl.store(out + offsets, value + (update + bias[None, :]) * gate[None, :], mask=mask)


def mlp(
    x: Tensor,
    parts: Tensor,
    modulation: Tensor,
    weights: MlpWeights,
    out: Tensor,
    out_parts: Tensor,
    *,
    tile: Tile,
    precision: str,
) -> None:
    """Write the stream after the MLP to `out` and `out_parts`; arguments as for `attention`."""
    robots, count, tokens, width = x.shape
    hidden = weights.into.shape[1]
    _mlp_kernel[tile.grid(robots, count)](
        x, parts, x.numel(), modulation, modulation.stride(0), *weights, out, out_parts, count,
        TOKENS=tokens, WIDTH=width, HIDDEN=hidden, PARTS=parts.shape[0], SPLITS=tile.splits,
        PRECISION=precision, BLOCK_R=tile.rows, BLOCK_T=tile.tokens, BLOCK_W=tile.width,
        BLOCK_M=chunk(hidden, tile.columns), num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip


def mlp_reference(x: Tensor, parts: Tensor, modulation: Tensor, weights: MlpWeights) -> Tensor:
    """The stream after the MLP (B, C, T, W), plainly."""
    value = stream_reference(x, parts)
    shift, scale, gate = modulation.chunk(3, dim=-1)
    rows = normalised_reference(value, shift, scale)
    hidden = functional.gelu(
        rows @ weights.into.to(rows.dtype) + weights.into_bias, approximate="tanh"
    )
    update = hidden @ weights.out.to(rows.dtype) + weights.out_bias
    return value + gate[:, None, None] * update
