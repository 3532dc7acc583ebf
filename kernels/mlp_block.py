"""A block's MLP as training runs it: one kernel forward, one backward, a modulation for each sample.

    y = x + gate * update,  update = out(gelu(in(norm(x) * (1 + scale) + shift)))

Neither keeps hidden columns: backward computes them again, a chunk at a time, and writes them with
their gradients for the products over all rows that make the gradients of the matrices.
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
    own_modulation,
    row_offsets,
    rows_contiguous,
    store_gated,
    store_input_gradients,
    sum_of_rows,
)
from dmpc_fast.kernels.stream import load_vector, tile_rows
from dmpc_fast.kernels.tiles import Tile, chunk


class MlpBlockWeights(NamedTuple):
    """into (M, W) and its bias (M,), out (W, M) and its bias (W,), as `nn.Linear` has them: matrices
    in the storage dtype of the precision, biases float32."""

    into: Tensor
    into_bias: Tensor
    out: Tensor
    out_bias: Tensor


class MlpBlockGradients(NamedTuple):
    """Gradients of x (N, T, W) and modulation (N, 3 W) in float32, and what those of the weights are
    products and sums of: rows and d_update (N T, W), active and d_hidden (N T, M) in the storage
    dtype; tiles' shares of the biases' gradients, (tiles, M) and (tiles, W) float32."""

    x: Tensor
    modulation: Tensor
    rows: Tensor
    d_update: Tensor
    active: Tensor
    d_hidden: Tensor
    into_bias: Tensor
    out_bias: Tensor


@triton.jit
def _gelu_and_slope(x):
    """The tanh form, x times the logistic function of `doubled`, and its derivative."""
    doubled = 1.5957691216057308 * (x + 0.044715 * x * x * x)
    # Of the two ways to write it for either sign, the one that cannot overflow.
    small = tl.exp(-tl.abs(doubled))
    share = tl.where(doubled >= 0, 1.0, small) / (1.0 + small)
    inner = 1.5957691216057308 * (1.0 + 0.134145 * x * x)
    # share (1 - share), written so that neither factor is a difference of near equals.
    steep = small / ((1.0 + small) * (1.0 + small))
    return x * share, share + x * steep * inner


@triton.jit
def _hidden(rows, into, into_bias, hidden, inside, wide, column, WIDTH: tl.constexpr,
            PRECISION: tl.constexpr):  # fmt: skip
    """A chunk of hidden columns before their activation, (BLOCK_R, BLOCK_M)."""
    weights = into + hidden[None, :] * WIDTH + column[:, None]
    weights = tl.load(weights, wide[:, None] & inside[None, :], other=0.0)
    bias = tl.load(into_bias + hidden, inside, other=0.0)
    total = tl.zeros((rows.shape[0], hidden.shape[0]), tl.float32)
    return product(rows, weights, total, PRECISION) + bias[None, :]


@triton.jit
def _mlp_block_kernel(
    x, modulation, modulation_stride, into, into_bias, outward, outward_bias, out, out_update,
    count,
    TOKENS: tl.constexpr, WIDTH: tl.constexpr, HIDDEN: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    sample, token, valid = tile_rows(tl.program_id(0), count, TOKENS, BLOCK_T, BLOCK_R)
    column = tl.arange(0, BLOCK_W)
    wide = column < WIDTH
    offsets, mask = row_offsets(sample, token, valid, TOKENS, WIDTH, column)
    rows = modulated_rows(x, modulation, modulation_stride, sample, offsets, mask, WIDTH, BLOCK_W)
    if PRECISION == "bf16":
        rows = rounded(rows, tl.bfloat16)
    update = tl.zeros((BLOCK_R, BLOCK_W), tl.float32)
    for start in range(0, HIDDEN, BLOCK_M):
        hidden = start + tl.arange(0, BLOCK_M)
        inside = hidden < HIDDEN
        before = _hidden(rows, into, into_bias, hidden, inside, wide, column, WIDTH, PRECISION)
        active, _ = _gelu_and_slope(before)
        weights = outward + column[None, :] * HIDDEN + hidden[:, None]
        weights = tl.load(weights, inside[:, None] & wide[None, :], other=0.0)
        update = product(active, weights, update, PRECISION)
    update += load_vector(outward_bias, WIDTH, BLOCK_W)[None, :]
    store_gated(
        x, modulation, modulation_stride, update, out, out_update, sample, offsets, mask, WIDTH,
        BLOCK_W,
    )  # fmt: skip


@triton.jit
def _mlp_block_backward_kernel(
    x, modulation, modulation_stride, into, into_bias, outward, update, d_out, d_x, d_modulation,
    kept_rows, d_update, active, d_hidden, d_into_bias, d_outward_bias, count,
    TOKENS: tl.constexpr, WIDTH: tl.constexpr, HIDDEN: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_R: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_W: tl.constexpr, BLOCK_M: tl.constexpr,
):  # fmt: skip
    tile = tl.program_id(0)
    stored = kept_rows.dtype.element_ty
    sample, token, valid = tile_rows(tile, count, TOKENS, BLOCK_T, BLOCK_R)
    column = tl.arange(0, BLOCK_W)
    wide = column < WIDTH
    offsets, mask = row_offsets(sample, token, valid, TOKENS, WIDTH, column)
    rows = modulated_rows(x, modulation, modulation_stride, sample, offsets, mask, WIDTH, BLOCK_W)
    rows = rounded(rows, stored)
    given = tl.load(d_out + offsets, mask, other=0.0)
    given *= own_modulation(modulation, modulation_stride, sample, mask, 2, WIDTH, BLOCK_W)
    sum_of_rows(given, d_outward_bias + tile * WIDTH + column, wide)
    given = rounded(given, stored)
    tl.store(kept_rows + offsets, rows, mask=mask)
    tl.store(d_update + offsets, given, mask=mask)
    d_rows = tl.zeros((BLOCK_R, BLOCK_W), tl.float32)
    for start in range(0, HIDDEN, BLOCK_M):
        hidden = start + tl.arange(0, BLOCK_M)
        inside = hidden < HIDDEN
        before = _hidden(rows, into, into_bias, hidden, inside, wide, column, WIDTH, PRECISION)
        value, slope = _gelu_and_slope(before)
        weights = outward + column[:, None] * HIDDEN + hidden[None, :]
        weights = tl.load(weights, wide[:, None] & inside[None, :], other=0.0)
        zero = tl.zeros((BLOCK_R, BLOCK_M), tl.float32)
        gradient = product(given, weights, zero, PRECISION) * slope
        places, both = row_offsets(sample, token, valid, TOKENS, HIDDEN, hidden)
        tl.store(active + places, rounded(value, stored), mask=both)
        tl.store(d_hidden + places, rounded(gradient, stored), mask=both)
        sum_of_rows(gradient, d_into_bias + tile * HIDDEN + hidden, inside)
        weights = into + hidden[:, None] * WIDTH + column[None, :]
        weights = tl.load(weights, inside[:, None] & wide[None, :], other=0.0)
        d_rows = product(gradient, weights, d_rows, PRECISION)
    store_input_gradients(
        x, modulation, modulation_stride, update, d_out, d_rows, d_x, d_modulation, sample,
        offsets, mask, count, WIDTH, BLOCK_R, BLOCK_T, BLOCK_W,
    )  # fmt: skip


def mlp_block(
    x: Tensor, modulation: Tensor, weights: MlpBlockWeights, *, tile: Tile, precision: str
) -> tuple[Tensor, Tensor]:
    """y (N, T, W) float32 and the update (N, T, W) in the storage dtype.

    x: (N, T, W) float32, contiguous. modulation: (N, 3 W) float32, shift, scale and gate.
    """
    count, tokens, width = x.shape
    modulation, hidden = rows_contiguous(modulation), weights.into.shape[0]
    out = torch.empty_like(x)
    update = torch.empty_like(x, dtype=weights.into.dtype)
    _mlp_block_kernel[tile.grid(1, count)](
        x, modulation, modulation.stride(0), *weights, out, update, count,
        TOKENS=tokens, WIDTH=width, HIDDEN=hidden, PRECISION=PRECISIONS[precision].inner,
        BLOCK_R=tile.rows, BLOCK_T=tile.tokens, BLOCK_W=tile.width,
        BLOCK_M=chunk(hidden, tile.columns), num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return out, update


def mlp_block_backward(
    d_out: Tensor,
    x: Tensor,
    modulation: Tensor,
    weights: MlpBlockWeights,
    update: Tensor,
    *,
    tile: Tile,
    precision: str,
) -> MlpBlockGradients:
    """What the gradient of y (N, T, W), contiguous, makes of the inputs of `mlp_block`."""
    count, tokens, width = x.shape
    modulation, hidden = rows_contiguous(modulation), weights.into.shape[0]
    grid, rows = tile.grid(1, count), count * tokens
    found = MlpBlockGradients(
        torch.empty_like(x),
        x.new_empty(count, 3 * width),
        *(
            x.new_empty(rows, size, dtype=weights.into.dtype)
            for size in (width, width, hidden, hidden)
        ),
        *(x.new_empty(grid[0], size) for size in (hidden, width)),
    )
    _mlp_block_backward_kernel[grid](
        x, modulation, modulation.stride(0), weights.into, weights.into_bias, weights.out, update,
        d_out, *found, count,
        TOKENS=tokens, WIDTH=width, HIDDEN=hidden, PRECISION=PRECISIONS[precision].inner,
        BLOCK_R=tile.rows, BLOCK_T=tile.tokens, BLOCK_W=tile.width,
        BLOCK_M=chunk(hidden, tile.columns), num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    return found


def mlp_block_reference(x: Tensor, modulation: Tensor, weights: MlpBlockWeights) -> Tensor:
    """y (N, T, W), plainly."""
    rows, gate = modulated_reference(x, modulation)
    hidden = functional.linear(rows, weights.into, weights.into_bias)
    active = functional.gelu(hidden, approximate="tanh")
    return x + gate * functional.linear(active, weights.out, weights.out_bias)
