"""The gradient of `attention_block` as one kernel, which computes everything again a head at a time.

It writes what the gradients of the matrices are products of, over all rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from dmpc_fast.kernels.attention_block import (
    AttentionBlockWeights,
    attended_pairs,
    attention_shares,
    block_constants,
    head_part,
)
from dmpc_fast.kernels.precision import product, rounded
from dmpc_fast.kernels.sample_rows import (
    modulated_rows,
    own_modulation,
    row_offsets,
    rows_contiguous,
    store_input_gradients,
    sum_of_rows,
)
from dmpc_fast.kernels.stream import tile_rows
from dmpc_fast.kernels.tiles import Tile


class AttentionBlockGradients(NamedTuple):
    """Gradients of x (N, T, W) and modulation (N, 3 W) in float32, and what those of the weights are
    products and sums of: rows and d_update (N T, W), attended (N T, D) and d_qkv (N T, 3 D) in the
    storage dtype; tiles' shares of the biases' gradients, (tiles, 3 D) and (tiles, W) float32."""

    x: Tensor
    modulation: Tensor
    rows: Tensor
    d_update: Tensor
    attended: Tensor
    d_qkv: Tensor
    qkv_bias: Tensor
    projection_bias: Tensor


@triton.jit
def _through(gradient, qkv, place, inside, d_rows, WIDTH: tl.constexpr, PRECISION: tl.constexpr,
             BLOCK_W: tl.constexpr):  # fmt: skip
    """`d_rows` plus what the gradient of one such chunk gives."""
    column = tl.arange(0, BLOCK_W)
    weights = tl.load(
        qkv + place[:, None] * WIDTH + column[None, :],
        inside[:, None] & (column < WIDTH)[None, :],
        other=0.0,
    )
    return product(gradient, weights, d_rows, PRECISION)


@triton.jit
def _store_part(
    gradient, d_qkv, d_qkv_bias, tile, sample, token, valid, place, inside, TOKENS: tl.constexpr,
    INNER: tl.constexpr,
):  # fmt: skip
    """Write the gradient of a chunk of queries, keys or values, and its share of the bias's."""
    offsets, _ = row_offsets(sample, token, valid, TOKENS, 3 * INNER, place)
    both = valid[:, None] & inside[None, :]
    tl.store(d_qkv + offsets, rounded(gradient, d_qkv.dtype.element_ty), mask=both)
    sum_of_rows(gradient, d_qkv_bias + tile * (3 * INNER) + place, inside)


@triton.jit
def _attention_block_backward_kernel(
    x, modulation, modulation_stride, mask, qkv, qkv_bias, projection, update, d_out, d_x,
    d_modulation, kept_rows, d_update, kept_attended, d_qkv, d_qkv_bias, d_projection_bias, count,
    TOKENS: tl.constexpr, WIDTH: tl.constexpr, HEADS: tl.constexpr, HEAD_SIZE: tl.constexpr,
    MASKED: tl.constexpr, PRECISION: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    INNER: tl.constexpr = HEADS * HEAD_SIZE
    tile = tl.program_id(0)
    stored = kept_rows.dtype.element_ty
    sample, token, valid = tile_rows(tile, count, TOKENS, BLOCK_T, BLOCK_R)
    column = tl.arange(0, BLOCK_W)
    wide = column < WIDTH
    offsets, both = row_offsets(sample, token, valid, TOKENS, WIDTH, column)
    rows = modulated_rows(x, modulation, modulation_stride, sample, offsets, both, WIDTH, BLOCK_W)
    rows = rounded(rows, stored)
    given = tl.load(d_out + offsets, both, other=0.0)
    given *= own_modulation(modulation, modulation_stride, sample, both, 2, WIDTH, BLOCK_W)
    sum_of_rows(given, d_projection_bias + tile * WIDTH + column, wide)
    given = rounded(given, stored)
    tl.store(kept_rows + offsets, rows, mask=both)
    tl.store(d_update + offsets, given, mask=both)
    pair, added = attended_pairs(mask, sample, token, valid, TOKENS, MASKED)
    d_rows = tl.zeros((BLOCK_R, BLOCK_W), tl.float32)
    for head in range(HEADS):
        first = head * HEAD_SIZE
        attention = attention_shares(
            rows, qkv, qkv_bias, pair, added, first, WIDTH, INNER, HEAD_SIZE, PRECISION, BLOCK_R,
            BLOCK_W, BLOCK_D,
        )  # fmt: skip
        d_attention = tl.zeros((BLOCK_R, BLOCK_R), tl.float32)
        for start in range(0, HEAD_SIZE, BLOCK_D):
            size = start + tl.arange(0, BLOCK_D)
            inside, place = size < HEAD_SIZE, first + size
            zero = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
            weights = tl.load(
                projection + column[:, None] * INNER + place[None, :],
                wide[:, None] & inside[None, :],
                other=0.0,
            )
            d_attended = product(given, weights, zero, PRECISION)
            place += 2 * INNER
            values = head_part(rows, qkv, qkv_bias, place, inside, WIDTH, PRECISION, BLOCK_W)
            d_attention = product(d_attended, tl.trans(values), d_attention, PRECISION)
            attended = product(attention, values, zero, PRECISION)
            at, _ = row_offsets(sample, token, valid, TOKENS, INNER, first + size)
            some = valid[:, None] & inside[None, :]
            tl.store(kept_attended + at, rounded(attended, stored), mask=some)
            d_values = product(tl.trans(attention), d_attended, zero, PRECISION)
            _store_part(
                d_values, d_qkv, d_qkv_bias, tile, sample, token, valid, place, inside, TOKENS,
                INNER,
            )  # fmt: skip
            d_rows = _through(d_values, qkv, place, inside, d_rows, WIDTH, PRECISION, BLOCK_W)

        along = tl.sum(d_attention * attention, axis=1)
        d_logits = attention * (d_attention - along[:, None]) * (1.0 / HEAD_SIZE**0.5)
        for start in range(0, HEAD_SIZE, BLOCK_D):
            size = start + tl.arange(0, BLOCK_D)
            inside, place = size < HEAD_SIZE, first + size
            zero = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
            key = head_part(rows, qkv, qkv_bias, INNER + place, inside, WIDTH, PRECISION, BLOCK_W)
            d_query = product(d_logits, key, zero, PRECISION)
            _store_part(
                d_query, d_qkv, d_qkv_bias, tile, sample, token, valid, place, inside, TOKENS,
                INNER,
            )  # fmt: skip
            d_rows = _through(d_query, qkv, place, inside, d_rows, WIDTH, PRECISION, BLOCK_W)
            query = head_part(rows, qkv, qkv_bias, place, inside, WIDTH, PRECISION, BLOCK_W)
            place += INNER
            d_key = product(tl.trans(d_logits), query, zero, PRECISION)
            _store_part(
                d_key, d_qkv, d_qkv_bias, tile, sample, token, valid, place, inside, TOKENS,
                INNER,
            )  # fmt: skip
            d_rows = _through(d_key, qkv, place, inside, d_rows, WIDTH, PRECISION, BLOCK_W)
    store_input_gradients(
        x, modulation, modulation_stride, update, d_out, d_rows, d_x, d_modulation, sample,
        offsets, both, count, WIDTH, BLOCK_R, BLOCK_T, BLOCK_W,
    )  # fmt: skip


def attention_block_backward(
    d_out: Tensor,
    x: Tensor,
    modulation: Tensor,
    mask: Tensor | None,
    weights: AttentionBlockWeights,
    update: Tensor,
    *,
    heads: int,
    tile: Tile,
    precision: str,
) -> AttentionBlockGradients:
    """What the gradient of y (N, T, W), contiguous, makes of the inputs of `attention_block`."""
    count, tokens, width = x.shape
    modulation, inner = rows_contiguous(modulation), weights.projection.shape[1]
    grid, rows = tile.grid(1, count), count * tokens
    found = AttentionBlockGradients(
        torch.empty_like(x),
        x.new_empty(count, 3 * width),
        *(
            x.new_empty(rows, size, dtype=weights.qkv.dtype)
            for size in (width, width, inner, 3 * inner)
        ),
        *(x.new_empty(grid[0], size) for size in (3 * inner, width)),
    )
    _attention_block_backward_kernel[grid](
        x, modulation, modulation.stride(0), mask, weights.qkv, weights.qkv_bias,
        weights.projection, update, d_out, *found, count,
        **block_constants(x, heads, inner // heads, mask, tile, precision),
    )  # fmt: skip
    return found
