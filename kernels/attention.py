"""Norm, modulation, QKV, attention and projection of a block as one kernel.

    y = x + sum(parts);  y + gate * projection(attention(qkv(norm(y) * (1 + scale) + shift)))

One program takes a tile of rows through a share of the heads. Queries, keys, logits and attended
values never leave the chip; a head's output is projected at once.
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

#: Logit of a pair that must not attend; finite, so that a row without any pair is no NaN.
MASKED = tl.constexpr(-1e30)


class AttentionWeights(NamedTuple):
    """qkv (W, 3 D) and its bias (3 D,): queries, keys, values, each head after head, D = heads times
    head size. projection (D, W) and its bias (W,). Matrices in the storage dtype, biases float32."""

    qkv: Tensor
    qkv_bias: Tensor
    projection: Tensor
    projection_bias: Tensor


@triton.jit
def _attention_kernel(
    x, parts, part_stride, modulation, modulation_stride, qkv, qkv_bias, projection,
    projection_bias, out, out_parts, count,
    TOKENS: tl.constexpr, WIDTH: tl.constexpr, HEADS: tl.constexpr, HEAD_SIZE: tl.constexpr,
    PARTS: tl.constexpr, SPLITS: tl.constexpr, PRECISION: tl.constexpr, BLOCK_R: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_D: tl.constexpr,
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

    INNER: tl.constexpr = HEADS * HEAD_SIZE
    SHARE: tl.constexpr = (HEADS + SPLITS - 1) // SPLITS
    column = tl.arange(0, BLOCK_W)
    wide = column < WIDTH
    allowed = (candidate[:, None] == candidate[None, :]) & valid[None, :]
    update = tl.zeros((BLOCK_R, BLOCK_W), tl.float32)
    for head in range(split * SHARE, tl.minimum((split + 1) * SHARE, HEADS)):
        # Logits, a chunk of the head's dimensions at a time.
        logits = tl.zeros((BLOCK_R, BLOCK_R), tl.float32)
        for start in range(0, HEAD_SIZE, BLOCK_D):
            size = start + tl.arange(0, BLOCK_D)
            inside = size < HEAD_SIZE
            place = head * HEAD_SIZE + size
            weights = qkv + column[:, None] * (3 * INNER) + place[None, :]
            both = wide[:, None] & inside[None, :]
            zero = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
            query = product(rows, tl.load(weights, both, other=0.0), zero, PRECISION)
            query += tl.load(qkv_bias + place, inside, other=0.0)[None, :]
            key = product(rows, tl.load(weights + INNER, both, other=0.0), zero, PRECISION)
            key += tl.load(qkv_bias + INNER + place, inside, other=0.0)[None, :]
            logits = product(query, tl.trans(key), logits, PRECISION)
        logits = tl.where(allowed, logits * (1.0 / HEAD_SIZE**0.5), MASKED)
        raised = tl.exp(logits - tl.max(logits, axis=1)[:, None])
        attention = raised / tl.sum(raised, axis=1)[:, None]

        # Values, attended and projected, a chunk at a time.
        for start in range(0, HEAD_SIZE, BLOCK_D):
            size = start + tl.arange(0, BLOCK_D)
            inside = size < HEAD_SIZE
            place = head * HEAD_SIZE + size
            weights = qkv + 2 * INNER + column[:, None] * (3 * INNER) + place[None, :]
            both = wide[:, None] & inside[None, :]
            zero = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
            values = product(rows, tl.load(weights, both, other=0.0), zero, PRECISION)
            values += tl.load(qkv_bias + 2 * INNER + place, inside, other=0.0)[None, :]
            attended = product(attention, values, zero, PRECISION)
            weights = projection + place[:, None] * WIDTH + column[None, :]
            both = inside[:, None] & wide[None, :]
            update = product(attended, tl.load(weights, both, other=0.0), update, PRECISION)

    bias = load_vector(projection_bias, WIDTH, BLOCK_W)
    gate = load_vector(own + 2 * WIDTH, WIDTH, BLOCK_W)
    if SPLITS > 1:
        update = (update + tl.where(split == 0, bias, 0.0)[None, :]) * gate[None, :]
        size = tl.num_programs(2).to(tl.int64) * count * TOKENS * WIDTH
        tl.store(out_parts + split * size + offsets, update, mask=mask)
    else:
        # Read again, so that a row's value need not wait in registers.
        value = load_stream(x, parts, part_stride, offsets, mask, PARTS)
        tl.store(out + offsets, value + (update + bias[None, :]) * gate[None, :], mask=mask)


def attention(
    x: Tensor,
    parts: Tensor,
    modulation: Tensor,
    weights: AttentionWeights,
    out: Tensor,
    out_parts: Tensor,
    *,
    heads: int,
    tile: Tile,
    precision: str,
) -> None:
    """Write the stream after attention to `out` and `out_parts`.

    x, parts: the stream (B, C, T, W) and (P, B, C, T, W), P = 0 where it is whole. modulation:
    (B, 3 W), rows of any stride, shift, scale and gate. out: (B, C, T, W), not x. out_parts:
    (tile.splits, B, C, T, W) where programs share rows, unused where they do not.
    """
    robots, count, tokens, width = x.shape
    head_size = weights.projection.shape[0] // heads
    _attention_kernel[tile.grid(robots, count)](
        x, parts, x.numel(), modulation, modulation.stride(0), *weights, out, out_parts, count,
        TOKENS=tokens, WIDTH=width, HEADS=heads, HEAD_SIZE=head_size, PARTS=parts.shape[0],
        SPLITS=tile.splits, PRECISION=precision, BLOCK_R=tile.rows, BLOCK_T=tile.tokens,
        BLOCK_W=tile.width, BLOCK_D=chunk(head_size, tile.columns),
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip


def attention_reference(
    x: Tensor, parts: Tensor, modulation: Tensor, weights: AttentionWeights, *, heads: int
) -> Tensor:
    """The stream after attention (B, C, T, W), plainly."""
    value = stream_reference(x, parts)
    shift, scale, gate = modulation.chunk(3, dim=-1)
    rows = normalised_reference(value, shift, scale)
    qkv = rows @ weights.qkv.to(rows.dtype) + weights.qkv_bias
    query, key, values = (
        part.unflatten(-1, (heads, -1)).transpose(-2, -3) for part in qkv.chunk(3, dim=-1)
    )
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    attended = functional.softmax(logits, dim=-1) @ values
    update = attended.transpose(-2, -3).flatten(-2) @ weights.projection.to(rows.dtype)
    return value + gate[:, None, None] * (update + weights.projection_bias)
