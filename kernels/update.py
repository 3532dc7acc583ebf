"""The last layer and a sampler row as one kernel.

    v = norm(y) * (1 + scale) + shift, times the matrix, plus the bias;  x <- a x + b v + s noise

y is the stream. After a sampler's last row the result is brought to environment units, clipped to the
bounds and normalised again, so that what reads it next sees what will run. Networks that do not
denoise have no x: their outputs are v.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from dmpc_fast.kernels.philox import standard_normals
from dmpc_fast.kernels.precision import product
from dmpc_fast.kernels.stream import (
    load_stream,
    normalised,
    normalised_reference,
    stream_offsets,
    stream_reference,
    tile_rows,
)
from dmpc_fast.kernels.tiles import Tile, chunk

#: Outputs of a token that one program computes.
MAX_OUTPUTS = 64


class LastLayer(NamedTuple):
    """matrix (W, patch X), bias (patch X,): float32."""

    matrix: Tensor
    bias: Tensor


class Row(NamedTuple):
    """x <- a x + b v + noise eps, with eps of step `step` of stage `stage` of the random stream."""

    a: float
    b: float
    noise: float
    stage: int
    step: int


class Edge(NamedTuple):
    """From normalised to environment units, (X,) float32 each: mean, scale, low and high bound."""

    mean: Tensor
    scale: Tensor
    low: Tensor
    high: Tensor


@triton.jit(do_not_specialize=["stage_and_step", "first"])
def _update_kernel(
    x, parts, part_stride, modulation, modulation_stride, matrix, bias, noisy, out, mean, scale,
    low, high, seed, words, a, b, noise, stage_and_step, count, first, total,
    TOKENS: tl.constexpr, WIDTH: tl.constexpr, OUTPUTS: tl.constexpr, FEATURES: tl.constexpr,
    PARTS: tl.constexpr, NOISY: tl.constexpr, FRESH: tl.constexpr, LAST: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_W: tl.constexpr,
    BLOCK_O: tl.constexpr,
):  # fmt: skip
    tile, robot = tl.program_id(0), tl.program_id(2)
    candidate, token, valid = tile_rows(tile, count, TOKENS, BLOCK_T, BLOCK_R)
    offsets, mask = stream_offsets(robot, candidate, token, valid, count, TOKENS, WIDTH, BLOCK_W)
    value = load_stream(x, parts, part_stride, offsets, mask, PARTS)
    own = modulation + robot.to(tl.int64) * modulation_stride
    rows = normalised(value, own, WIDTH, BLOCK_W)

    column = tl.arange(0, BLOCK_W)
    output = tl.program_id(1) * BLOCK_O + tl.arange(0, BLOCK_O)
    inside = output < OUTPUTS
    weights = tl.load(
        matrix + column[:, None] * OUTPUTS + output[None, :],
        (column < WIDTH)[:, None] & inside[None, :],
        other=0.0,
    )
    result = product(rows, weights, tl.zeros((BLOCK_R, BLOCK_O), tl.float32), PRECISION)
    result += tl.load(bias + output, inside, other=0.0)[None, :]

    # Outputs of a token lie one after another, as its features do.
    mask = valid[:, None] & inside[None, :]
    row = (robot.to(tl.int64) * total + first + candidate) * TOKENS + token
    at = row[:, None] * OUTPUTS + output[None, :]
    if NOISY:
        result = a * tl.load(noisy + at, mask, other=0.0) + b * result
        if FRESH:
            result += noise * standard_normals(
                tl.load(seed),
                token[:, None] * OUTPUTS + output[None, :],
                (first + candidate)[:, None],
                tl.load(words + 2 * robot),
                tl.load(words + 2 * robot + 1) | stage_and_step,
            )
        if LAST:
            feature = output % FEATURES
            spread = tl.load(scale + feature, inside, other=1.0)[None, :]
            centre = tl.load(mean + feature, inside, other=0.0)[None, :]
            real = result * spread + centre
            real = tl.maximum(real, tl.load(low + feature, inside, other=0.0)[None, :])
            real = tl.minimum(real, tl.load(high + feature, inside, other=0.0)[None, :])
            tl.store(out + at, real, mask=mask)
            result = (real - centre) / spread
        tl.store(noisy + at, result, mask=mask)
    else:
        tl.store(out + at, result, mask=mask)


def update(
    x: Tensor,
    parts: Tensor,
    modulation: Tensor,
    layer: LastLayer,
    noisy: Tensor,
    seed: Tensor,
    words: Tensor,
    *,
    row: Row,
    first: int,
    tile: Tile,
    precision: str,
    edge: Edge | None = None,
    out: Tensor | None = None,
) -> None:
    """Take candidates first .. first + C - 1 of `noisy` (B, N, F, X) through one sampler row.

    x, parts, modulation (B, 2 W): as for `attention`, of C candidates; shift and scale. seed, words:
    as for `start`. edge, out: given together after the last row, to write `out` (B, N, F, X) in
    environment units as well.
    """
    if (edge is None) != (out is None):
        raise ValueError("edge and out must be given together")
    nothing = edge or Edge(noisy, noisy, noisy, noisy)
    features = noisy.shape[-1]
    _launch(
        x, parts, modulation, layer, noisy, noisy if out is None else out, nothing, seed, words,
        row, first, tile, precision, features=features, is_noisy=True, last=out is not None,
    )  # fmt: skip


def outputs(
    x: Tensor,
    parts: Tensor,
    modulation: Tensor,
    layer: LastLayer,
    out: Tensor,
    *,
    tile: Tile,
    precision: str,
) -> None:
    """Write the outputs of a network that does not denoise to `out` (B, C, F, O)."""
    unread, empty = Edge(out, out, out, out), Row(0.0, 1.0, 0.0, 0, 0)
    _launch(
        x, parts, modulation, layer, out, out, unread, out, out, empty, 0, tile, precision,
        features=out.shape[-1], is_noisy=False, last=False,
    )  # fmt: skip


def _launch(
    x: Tensor, parts: Tensor, modulation: Tensor, layer: LastLayer, noisy: Tensor, out: Tensor,
    edge: Edge, seed: Tensor, words: Tensor, row: Row, first: int, tile: Tile, precision: str, *,
    features: int, is_noisy: bool, last: bool,
) -> None:  # fmt: skip
    robots, count, tokens, width = x.shape
    size = layer.matrix.shape[1]
    block = chunk(size, MAX_OUTPUTS)
    grid = (tile.grid(robots, count)[0], -(-size // block), robots)
    _update_kernel[grid](
        x, parts, x.numel(), modulation, modulation.stride(0), *layer, noisy, out, *edge, seed,
        words, row.a, row.b, row.noise, row.stage << 8 | row.step, count, first, out.shape[1],
        TOKENS=tokens, WIDTH=width, OUTPUTS=size, FEATURES=features, PARTS=parts.shape[0],
        NOISY=is_noisy, FRESH=row.noise != 0.0, LAST=last, PRECISION=precision, BLOCK_R=tile.rows,
        BLOCK_T=tile.tokens, BLOCK_W=tile.width, BLOCK_O=block,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip


def update_reference(
    x: Tensor,
    parts: Tensor,
    modulation: Tensor,
    layer: LastLayer,
    noisy: Tensor,
    noise: Tensor,
    row: Row,
    edge: Edge | None = None,
) -> tuple[Tensor, Tensor | None]:
    """The new x (B, C, F, X) and, with an edge, its values in environment units, plainly.

    noisy, noise: (B, C, F, X).
    """
    velocity = outputs_reference(x, parts, modulation, layer, noisy.shape[-1])
    result = row.a * noisy + row.b * velocity + row.noise * noise
    if edge is None:
        return result, None
    real = torch.clamp(result * edge.scale + edge.mean, edge.low, edge.high)
    return (real - edge.mean) / edge.scale, real


def outputs_reference(
    x: Tensor, parts: Tensor, modulation: Tensor, layer: LastLayer, features: int
) -> Tensor:
    """Outputs of the last layer (B, C, F, features), plainly."""
    shift, scale = modulation.chunk(2, dim=-1)
    rows = normalised_reference(stream_reference(x, parts), shift, scale)
    return (rows @ layer.matrix + layer.bias).flatten(2).unflatten(2, (-1, features))
