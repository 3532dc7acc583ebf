"""Tokens from per-step features: the linear map, positions and what all candidates share.

    tokens = noisy @ W_noisy + clean @ W_clean + positions + offset

A token's features lie one after another in memory, `patch` steps of them, so no patch is ever cut
out: row t of a candidate starts t * patch * features numbers after the candidate.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from dmpc_fast.kernels.precision import product
from dmpc_fast.kernels.stream import stream_offsets, tile_rows
from dmpc_fast.kernels.tiles import Tile, chunk

#: Features that are multiplied at once.
MAX_FEATURES = 64


class EmbeddingWeights(NamedTuple):
    """noisy (patch X, W), clean (patch U, W): of the token's features, X or U may be 0. positions
    (T, W). All float32."""

    noisy: Tensor
    clean: Tensor
    positions: Tensor


@triton.jit
def _features(
    tokens, source, weights, candidate, token, valid, robot, first, total,
    TOKENS: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_W: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """`tokens` plus what one source of features gives."""
    column = tl.arange(0, BLOCK_W)
    row = ((robot.to(tl.int64) * total + first + candidate) * TOKENS + token) * SIZE
    for start in range(0, SIZE, BLOCK_K):
        feature = start + tl.arange(0, BLOCK_K)
        inside = feature < SIZE
        given = tl.load(
            source + row[:, None] + feature[None, :], valid[:, None] & inside[None, :], other=0.0
        )
        matrix = tl.load(
            weights + feature[:, None] * WIDTH + column[None, :],
            inside[:, None] & (column < WIDTH)[None, :],
            other=0.0,
        )
        tokens = product(given, matrix, tokens, PRECISION)
    return tokens


@triton.jit(do_not_specialize=["first"])
def _embedding_kernel(
    noisy, clean, noisy_weights, clean_weights, positions, offset, out, count, first, total,
    TOKENS: tl.constexpr, WIDTH: tl.constexpr, NOISY: tl.constexpr, CLEAN: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_W: tl.constexpr,
    BLOCK_NOISY: tl.constexpr, BLOCK_CLEAN: tl.constexpr,
):  # fmt: skip
    tile, robot = tl.program_id(0), tl.program_id(2)
    candidate, token, valid = tile_rows(tile, count, TOKENS, BLOCK_T, BLOCK_R)
    column = tl.arange(0, BLOCK_W)
    shared = tl.load(offset + robot * WIDTH + column, column < WIDTH, other=0.0)
    mask = valid[:, None] & (column < WIDTH)[None, :]
    tokens = tl.load(positions + token[:, None] * WIDTH + column[None, :], mask, other=0.0)
    tokens += shared[None, :]
    if NOISY > 0:
        tokens = _features(
            tokens, noisy, noisy_weights, candidate, token, valid, robot, first, total,
            TOKENS, WIDTH, NOISY, PRECISION, BLOCK_W, BLOCK_NOISY,
        )  # fmt: skip
    if CLEAN > 0:
        tokens = _features(
            tokens, clean, clean_weights, candidate, token, valid, robot, first, total,
            TOKENS, WIDTH, CLEAN, PRECISION, BLOCK_W, BLOCK_CLEAN,
        )  # fmt: skip
    offsets, mask = stream_offsets(robot, candidate, token, valid, count, TOKENS, WIDTH, BLOCK_W)
    tl.store(out + offsets, tokens, mask=mask)


def embedding(
    noisy: Tensor,
    clean: Tensor,
    weights: EmbeddingWeights,
    offset: Tensor,
    out: Tensor,
    *,
    first: int,
    tile: Tile,
    precision: str,
) -> None:
    """Write tokens (B, C, T, W) to `out`, of candidates first .. first + C - 1.

    noisy (B, N, F, X), clean (B, N, F, U): contiguous; one that has no features is not read. offset
    (B, W): contiguous, what every token of a robot gets.
    """
    robots, count, tokens, width = out.shape
    noisy_size, clean_size = weights.noisy.shape[0], weights.clean.shape[0]
    grid = tile._replace(splits=1).grid(robots, count)
    _embedding_kernel[grid](
        noisy, clean, *weights, offset, out, count, first, max(noisy.shape[1], clean.shape[1]),
        TOKENS=tokens, WIDTH=width, NOISY=noisy_size, CLEAN=clean_size, PRECISION=precision,
        BLOCK_R=tile.rows, BLOCK_T=tile.tokens, BLOCK_W=tile.width,
        BLOCK_NOISY=chunk(max(1, noisy_size), MAX_FEATURES),
        BLOCK_CLEAN=chunk(max(1, clean_size), MAX_FEATURES),
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip


def embedding_reference(
    noisy: Tensor, clean: Tensor, weights: EmbeddingWeights, offset: Tensor
) -> Tensor:
    """Tokens (B, N, T, W) of all candidates, plainly."""
    tokens = weights.positions.shape[0]
    total = weights.positions + offset[:, None, None]
    for source, matrix in ((noisy, weights.noisy), (clean, weights.clean)):
        if matrix.shape[0]:
            total = total + source.unflatten(2, (tokens, -1)).flatten(-2) @ matrix
    return total
