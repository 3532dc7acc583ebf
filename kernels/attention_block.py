"""A block's attention as training runs it: a modulation for each sample, and a mask of the tokens that
nobody attends to.

    y = x + gate * update,  update = projection(attention(qkv(norm(x) * (1 + scale) + shift), mask))

Queries, keys, values and logits are not kept: `attention_block_backward` computes them again.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from dmpc_fast.kernels.precision import PRECISIONS, product, rounded
from dmpc_fast.kernels.sample_rows import (
    modulated_reference,
    modulated_rows,
    row_offsets,
    rows_contiguous,
    store_gated,
)
from dmpc_fast.kernels.stream import load_vector, tile_rows
from dmpc_fast.kernels.tiles import Tile, chunk

#: No largest logit is below it, so that a row without any pair is no NaN.
_LEAST = tl.constexpr(-1e30)


class AttentionBlockWeights(NamedTuple):
    """qkv (3 D, W) and its bias (3 D,): queries, keys, values, each head after head, D = heads times
    head size. projection (W, D) and its bias (W,). As `nn.Linear` has them: matrices in the storage
    dtype of the precision, biases float32."""

    qkv: Tensor
    qkv_bias: Tensor
    projection: Tensor
    projection_bias: Tensor


@triton.jit
def head_part(
    rows, qkv, qkv_bias, place, inside, WIDTH: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Queries, keys or values of one chunk of a head's dimensions, (BLOCK_R, BLOCK_D)."""
    column = tl.arange(0, BLOCK_W)
    weights = tl.load(
        qkv + place[None, :] * WIDTH + column[:, None],
        (column < WIDTH)[:, None] & inside[None, :],
        other=0.0,
    )
    bias = tl.load(qkv_bias + place, inside, other=0.0)
    total = tl.zeros((rows.shape[0], place.shape[0]), tl.float32)
    return product(rows, weights, total, PRECISION) + bias[None, :]


@triton.jit
def attention_shares(
    rows, qkv, qkv_bias, pair, added, first, WIDTH: tl.constexpr, INNER: tl.constexpr,
    HEAD_SIZE: tl.constexpr, PRECISION: tl.constexpr, BLOCK_R: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Shares (BLOCK_R, BLOCK_R) of what each row attends to, 0 where there is no pair."""
    logits = tl.zeros((BLOCK_R, BLOCK_R), tl.float32)
    for start in range(0, HEAD_SIZE, BLOCK_D):
        size = start + tl.arange(0, BLOCK_D)
        inside, place = size < HEAD_SIZE, first + size
        query = head_part(rows, qkv, qkv_bias, place, inside, WIDTH, PRECISION, BLOCK_W)
        key = head_part(rows, qkv, qkv_bias, INNER + place, inside, WIDTH, PRECISION, BLOCK_W)
        logits = product(query, tl.trans(key), logits, PRECISION)
    logits = logits * (1.0 / HEAD_SIZE**0.5) + added[None, :]
    logits = tl.where(pair, logits, float("-inf"))
    raised = tl.exp(logits - tl.maximum(tl.max(logits, axis=1), _LEAST)[:, None])
    total = tl.sum(raised, axis=1)
    return raised / tl.where(total > 0, total, 1.0)[:, None]


@triton.jit
def attended_pairs(mask, sample, token, valid, TOKENS: tl.constexpr, MASKED: tl.constexpr):
    """Which rows are of the same sample, and what the mask adds to each column's logits."""
    pair = (sample[:, None] == sample[None, :]) & valid[:, None] & valid[None, :]
    added = tl.zeros(sample.shape, tl.float32)
    if MASKED:
        added = tl.load(mask + sample.to(tl.int64) * TOKENS + token, valid, other=0.0)
    return pair, added


@triton.jit
def _attention_block_kernel(
    x, modulation, modulation_stride, mask, qkv, qkv_bias, projection, projection_bias, out,
    out_update, count,
    TOKENS: tl.constexpr, WIDTH: tl.constexpr, HEADS: tl.constexpr, HEAD_SIZE: tl.constexpr,
    MASKED: tl.constexpr, PRECISION: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    INNER: tl.constexpr = HEADS * HEAD_SIZE
    sample, token, valid = tile_rows(tl.program_id(0), count, TOKENS, BLOCK_T, BLOCK_R)
    column = tl.arange(0, BLOCK_W)
    offsets, both = row_offsets(sample, token, valid, TOKENS, WIDTH, column)
    rows = modulated_rows(x, modulation, modulation_stride, sample, offsets, both, WIDTH, BLOCK_W)
    if PRECISION == "bf16":
        rows = rounded(rows, tl.bfloat16)
    pair, added = attended_pairs(mask, sample, token, valid, TOKENS, MASKED)
    update = tl.zeros((BLOCK_R, BLOCK_W), tl.float32)
    for head in range(HEADS):
        first = head * HEAD_SIZE
        attention = attention_shares(
            rows, qkv, qkv_bias, pair, added, first, WIDTH, INNER, HEAD_SIZE, PRECISION, BLOCK_R,
            BLOCK_W, BLOCK_D,
        )  # fmt: skip
        for start in range(0, HEAD_SIZE, BLOCK_D):
            size = start + tl.arange(0, BLOCK_D)
            inside, place = size < HEAD_SIZE, first + size
            values = head_part(
                rows, qkv, qkv_bias, 2 * INNER + place, inside, WIDTH, PRECISION, BLOCK_W
            )
            zero = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
            attended = product(attention, values, zero, PRECISION)
            weights = tl.load(
                projection + column[None, :] * INNER + place[:, None],
                inside[:, None] & (column < WIDTH)[None, :],
                other=0.0,
            )
            update = product(attended, weights, update, PRECISION)
    update += load_vector(projection_bias, WIDTH, BLOCK_W)[None, :]
    store_gated(
        x, modulation, modulation_stride, update, out, out_update, sample, offsets, both, WIDTH,
        BLOCK_W,
    )  # fmt: skip


def attention_block(
    x: Tensor,
    modulation: Tensor,
    mask: Tensor | None,
    weights: AttentionBlockWeights,
    *,
    heads: int,
    tile: Tile,
    precision: str,
) -> tuple[Tensor, Tensor]:
    """y (N, T, W) float32 and the update (N, T, W) in the storage dtype.

    x: (N, T, W) float32, contiguous. modulation: (N, 3 W) float32, shift, scale and gate. mask:
    (N, T) float32, contiguous, added to the logits of what each token attends to: 0, or -inf for
    nobody. A sample whose tokens are all masked attends to nothing and gets zeros.
    """
    count = x.shape[0]
    modulation, head_size = rows_contiguous(modulation), weights.projection.shape[1] // heads
    out = torch.empty_like(x)
    update = torch.empty_like(x, dtype=weights.qkv.dtype)
    _attention_block_kernel[tile.grid(1, count)](
        x, modulation, modulation.stride(0), mask, *weights, out, update, count,
        **block_constants(x, heads, head_size, mask, tile, precision),
    )  # fmt: skip
    return out, update


def block_constants(
    x: Tensor, heads: int, head_size: int, mask: Tensor | None, tile: Tile, precision: str
) -> dict[str, object]:
    """Constants and options of both kernels."""
    return {
        "TOKENS": x.shape[1], "WIDTH": x.shape[2], "HEADS": heads, "HEAD_SIZE": head_size,
        "MASKED": mask is not None, "PRECISION": PRECISIONS[precision].inner,
        "BLOCK_R": tile.rows, "BLOCK_T": tile.tokens, "BLOCK_W": tile.width,
        "BLOCK_D": chunk(head_size, tile.columns), "num_warps": tile.warps,
        "num_stages": tile.stages,
    }  # fmt: skip


def attention_block_reference(
    x: Tensor,
    modulation: Tensor,
    mask: Tensor | None,
    weights: AttentionBlockWeights,
    *,
    heads: int,
) -> Tensor:
    """y (N, T, W), plainly; every sample must have a token that is not masked."""
    rows, gate = modulated_reference(x, modulation)
    qkv = functional.linear(rows, weights.qkv, weights.qkv_bias)
    query, key, values = (
        part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, dim=-1)
    )
    logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    if mask is not None:
        logits = logits + mask[:, None, None]
    attended = functional.softmax(logits, dim=-1) @ values
    update = attended.transpose(1, 2).flatten(2)
    return x + gate * functional.linear(update, weights.projection, weights.projection_bias)
