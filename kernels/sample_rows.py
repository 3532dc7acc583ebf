"""Rows of training: each sample has a modulation of its own, and gradients flow back through its norm.

Activations are (N, T, W) float32. A tile holds whole samples: BLOCK_R rows, BLOCK_T of them for each,
so that what a sample's tokens share is summed up by one program, in a fixed order.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor
from torch.nn import functional

from dmpc_fast.kernels.precision import rounded
from dmpc_fast.kernels.stream import EPSILON


@triton.jit
def row_offsets(sample, token, valid, TOKENS: tl.constexpr, SIZE: tl.constexpr, column):
    """Offsets and mask of columns of a tile's rows in (N, T, SIZE)."""
    row = sample.to(tl.int64) * TOKENS + token
    return row[:, None] * SIZE + column[None, :], valid[:, None] & (column < SIZE)[None, :]


@triton.jit
def own_modulation(
    modulation, stride, sample, inside, which: tl.constexpr, WIDTH: tl.constexpr,
    BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Shift (0), scale (1) or gate (2) of each row's sample, (BLOCK_R, BLOCK_W), 0 where none is."""
    place = sample.to(tl.int64)[:, None] * stride + which * WIDTH + tl.arange(0, BLOCK_W)[None, :]
    return tl.load(modulation + place, inside, other=0.0)


@triton.jit
def normal_rows(value, inside, WIDTH: tl.constexpr):
    """Rows (BLOCK_R, BLOCK_W) without mean and of unit variance, and what they were divided by."""
    mean = tl.sum(value, axis=1) / WIDTH
    centred = tl.where(inside, value - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, axis=1) / WIDTH
    inverse = 1.0 / tl.sqrt(variance + EPSILON)
    return centred * inverse[:, None], inverse


@triton.jit
def modulated_rows(
    x, modulation, stride, sample, offsets, inside, WIDTH: tl.constexpr, BLOCK_W: tl.constexpr
):
    """The rows that a block's first product reads."""
    normal, _ = normal_rows(tl.load(x + offsets, inside, other=0.0), inside, WIDTH)
    shift = own_modulation(modulation, stride, sample, inside, 0, WIDTH, BLOCK_W)
    scale = own_modulation(modulation, stride, sample, inside, 1, WIDTH, BLOCK_W)
    return normal * (1.0 + scale) + shift


@triton.jit
def store_gated(
    x, modulation, stride, update, out, out_update, sample, offsets, inside, WIDTH: tl.constexpr,
    BLOCK_W: tl.constexpr,
):  # fmt: skip
    """Write x + gate * update, and the update, which the gate's gradient needs."""
    gate = own_modulation(modulation, stride, sample, inside, 2, WIDTH, BLOCK_W)
    value = tl.load(x + offsets, inside, other=0.0)
    tl.store(out + offsets, value + gate * update, mask=inside)
    tl.store(out_update + offsets, rounded(update, out_update.dtype.element_ty), mask=inside)


@triton.jit
def sum_of_rows(rows, place, inside):
    """Write the sum (C,) of rows (BLOCK_R, C) at `place`: a tile's share of a bias's gradient."""
    tl.store(place, tl.sum(rows, axis=0), mask=inside)


@triton.jit
def _sum_of_samples(
    rows, place, first, count, WIDTH: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_W: tl.constexpr,
):  # fmt: skip
    samples: tl.constexpr = BLOCK_R // BLOCK_T
    sums = tl.sum(tl.reshape(rows, (samples, BLOCK_T, BLOCK_W)), axis=1)
    sample = first + tl.arange(0, samples)
    column = tl.arange(0, BLOCK_W)
    at = sample.to(tl.int64)[:, None] * (3 * WIDTH) + column[None, :]
    tl.store(place + at, sums, mask=(sample < count)[:, None] & (column < WIDTH)[None, :])


@triton.jit
def store_input_gradients(
    x, modulation, stride, update, d_out, d_rows, d_x, d_modulation, sample, offsets, inside,
    count, WIDTH: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_T: tl.constexpr,
    BLOCK_W: tl.constexpr,
):  # fmt: skip
    """From the gradient of the modulated rows to those of x (N, T, W) and modulation (N, 3 W)."""
    # Read and normalised again, so that nothing waits in registers while products are computed.
    normal, inverse = normal_rows(tl.load(x + offsets, inside, other=0.0), inside, WIDTH)
    scale = own_modulation(modulation, stride, sample, inside, 1, WIDTH, BLOCK_W)
    given = tl.load(d_out + offsets, inside, other=0.0)
    d_normal = d_rows * (1.0 + scale)
    along = tl.sum(d_normal * normal, axis=1) / WIDTH
    mean = tl.sum(d_normal, axis=1) / WIDTH
    d_value = (d_normal - mean[:, None] - normal * along[:, None]) * inverse[:, None]
    tl.store(d_x + offsets, given + d_value, mask=inside)
    first = tl.program_id(0) * (BLOCK_R // BLOCK_T)
    branch = tl.load(update + offsets, inside, other=0.0).to(tl.float32)
    _sum_of_samples(d_rows, d_modulation, first, count, WIDTH, BLOCK_R, BLOCK_T, BLOCK_W)
    _sum_of_samples(
        d_rows * normal, d_modulation + WIDTH, first, count, WIDTH, BLOCK_R, BLOCK_T, BLOCK_W
    )
    _sum_of_samples(
        given * branch, d_modulation + 2 * WIDTH, first, count, WIDTH, BLOCK_R, BLOCK_T, BLOCK_W
    )


def modulated_reference(x: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
    """Modulated rows (N, T, W) and gates (N, 1, W), plainly."""
    shift, scale, gate = modulation[:, None].chunk(3, dim=-1)
    normal = functional.layer_norm(x, x.shape[-1:], eps=EPSILON.value)
    return normal * (1 + scale) + shift, gate


def rows_contiguous(modulation: Tensor) -> Tensor:
    """(N, 3 W) whose rows are contiguous, any stride between them."""
    return modulation if modulation.stride(1) == 1 else modulation.contiguous()
