"""The fused blocks as operators that torch can differentiate, trace and compile around.

Each is a forward kernel, a backward kernel and, between them, products of torch: the gradients of the
weights are those of whole batches, which its libraries multiply best. Compilers see two opaque
operators and those products. There are no second derivatives.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dmpc_fast.kernels.attention_block import AttentionBlockWeights, attention_block
from dmpc_fast.kernels.attention_block_backward import (
    AttentionBlockGradients,
    attention_block_backward,
)
from dmpc_fast.kernels.mlp_block import (
    MlpBlockGradients,
    MlpBlockWeights,
    mlp_block,
    mlp_block_backward,
)
from dmpc_fast.kernels.precision import PRECISIONS
from dmpc_fast.kernels.tiles import Tile, choose_training_tile


def fused_attention(
    x: Tensor,
    modulation: Tensor,
    mask: Tensor | None,
    weights: AttentionBlockWeights,
    *,
    heads: int,
    precision: str,
) -> Tensor:
    """The stream after attention (N, T, W): see `kernels.attention_block`.

    Differentiable by x, modulation and weights. Raises TypeError for tensors of another dtype than
    the precision's, ValueError for modulation or mask of another shape and for sizes that no program
    holds.
    """
    _check(x, modulation, mask, weights, precision)
    out: Tensor = _attention(x, modulation, mask, *weights, heads, precision)[0]
    return out


def fused_mlp(x: Tensor, modulation: Tensor, weights: MlpBlockWeights, *, precision: str) -> Tensor:
    """The stream after the MLP (N, T, W): see `kernels.mlp_block`; the rest as in
    `fused_attention`."""
    _check(x, modulation, None, weights, precision)
    out: Tensor = _mlp(x, modulation, *weights, precision)[0]
    return out


@torch.library.custom_op("dmpc_fast::attention_block", mutates_args=())
def _attention(
    x: Tensor,
    modulation: Tensor,
    mask: Tensor | None,
    qkv: Tensor,
    qkv_bias: Tensor,
    projection: Tensor,
    projection_bias: Tensor,
    heads: int,
    precision: str,
) -> tuple[Tensor, Tensor]:
    weights = AttentionBlockWeights(*_contiguous(qkv, qkv_bias, projection, projection_bias))
    with torch.cuda.device_of(x):
        return attention_block(
            x.contiguous(), modulation, None if mask is None else mask.contiguous(), weights,
            heads=heads, tile=_tile(x, precision), precision=precision,
        )  # fmt: skip


@torch.library.custom_op("dmpc_fast::attention_block_backward", mutates_args=())
def _attention_backward(
    d_out: Tensor,
    x: Tensor,
    modulation: Tensor,
    mask: Tensor | None,
    qkv: Tensor,
    qkv_bias: Tensor,
    projection: Tensor,
    update: Tensor,
    heads: int,
    precision: str,
) -> list[Tensor]:
    # The projection's bias has no part in any gradient, and whatever stands for it is not read.
    weights = AttentionBlockWeights(*_contiguous(qkv, qkv_bias, projection, projection))
    with torch.cuda.device_of(x):
        found = attention_block_backward(
            d_out.contiguous(), x.contiguous(), modulation,
            None if mask is None else mask.contiguous(), weights, update.contiguous(),
            heads=heads, tile=_tile(x, precision), precision=precision,
        )  # fmt: skip
    return list(found)


@torch.library.custom_op("dmpc_fast::mlp_block", mutates_args=())
def _mlp(
    x: Tensor,
    modulation: Tensor,
    into: Tensor,
    into_bias: Tensor,
    outward: Tensor,
    outward_bias: Tensor,
    precision: str,
) -> tuple[Tensor, Tensor]:
    weights = MlpBlockWeights(*_contiguous(into, into_bias, outward, outward_bias))
    with torch.cuda.device_of(x):
        return mlp_block(
            x.contiguous(), modulation, weights, tile=_tile(x, precision), precision=precision
        )


@torch.library.custom_op("dmpc_fast::mlp_block_backward", mutates_args=())
def _mlp_backward(
    d_out: Tensor,
    x: Tensor,
    modulation: Tensor,
    into: Tensor,
    into_bias: Tensor,
    outward: Tensor,
    update: Tensor,
    precision: str,
) -> list[Tensor]:
    weights = MlpBlockWeights(*_contiguous(into, into_bias, outward, outward))
    with torch.cuda.device_of(x):
        found = mlp_block_backward(
            d_out.contiguous(), x.contiguous(), modulation, weights, update.contiguous(),
            tile=_tile(x, precision), precision=precision,
        )  # fmt: skip
    return list(found)


@_attention.register_fake
def _(
    x: Tensor, modulation: Tensor, mask: Tensor | None, qkv: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    return _like(x), x.new_empty(x.shape, dtype=qkv.dtype)


@_mlp.register_fake
def _(x: Tensor, modulation: Tensor, into: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return _like(x), x.new_empty(x.shape, dtype=into.dtype)


@_attention_backward.register_fake
def _(
    d_out: Tensor, x: Tensor, modulation: Tensor, mask: Tensor | None, qkv: Tensor,
    qkv_bias: Tensor, projection: Tensor, update: Tensor, heads: int, precision: str,
) -> list[Tensor]:  # fmt: skip
    width, inner = projection.shape
    return _like_gradients(x, qkv, precision, (width, width, inner, 3 * inner))


@_mlp_backward.register_fake
def _(
    d_out: Tensor, x: Tensor, modulation: Tensor, into: Tensor, into_bias: Tensor,
    outward: Tensor, update: Tensor, precision: str,
) -> list[Tensor]:  # fmt: skip
    width, hidden = outward.shape
    return _like_gradients(x, into, precision, (width, width, hidden, hidden))


def _like(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def _like_gradients(
    x: Tensor, matrix: Tensor, precision: str, sizes: tuple[int, int, int, int]
) -> list[Tensor]:
    """As the backward kernels fill them: two gradients, four operands, two shares of sums."""
    count, tokens, width = x.shape
    tiles = _tile(x, precision).grid(1, count)[0]
    return [
        _like(x),
        x.new_empty(count, 3 * width),
        *(x.new_empty(count * tokens, size, dtype=matrix.dtype) for size in sizes),
        *(x.new_empty(tiles, size) for size in (sizes[3], width)),
    ]


def _keep_attention(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, modulation, mask, qkv, qkv_bias, projection, _, ctx.heads, ctx.precision = inputs
    ctx.save_for_backward(x, modulation, mask, qkv, qkv_bias, projection, output[1])
    ctx.set_materialize_grads(False)


def _attention_gradients(ctx: Any, d_out: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    if d_out is None:
        return (None,) * 9
    found = AttentionBlockGradients(
        *_attention_backward(d_out, *ctx.saved_tensors, ctx.heads, ctx.precision)
    )
    return (
        found.x,
        found.modulation,
        None,
        _product(found.d_qkv, found.rows, ctx.needs_input_grad[3]),
        _sum(found.qkv_bias, ctx.needs_input_grad[4]),
        _product(found.d_update, found.attended, ctx.needs_input_grad[5]),
        _sum(found.projection_bias, ctx.needs_input_grad[6]),
        None,
        None,
    )


def _keep_mlp(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, modulation, into, into_bias, outward, _, ctx.precision = inputs
    ctx.save_for_backward(x, modulation, into, into_bias, outward, output[1])
    ctx.set_materialize_grads(False)


def _mlp_gradients(ctx: Any, d_out: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    if d_out is None:
        return (None,) * 7
    found = MlpBlockGradients(*_mlp_backward(d_out, *ctx.saved_tensors, ctx.precision))
    return (
        found.x,
        found.modulation,
        _product(found.d_hidden, found.rows, ctx.needs_input_grad[2]),
        _sum(found.into_bias, ctx.needs_input_grad[3]),
        _product(found.d_update, found.active, ctx.needs_input_grad[4]),
        _sum(found.out_bias, ctx.needs_input_grad[5]),
        None,
    )


_attention.register_autograd(_attention_gradients, setup_context=_keep_attention)
_mlp.register_autograd(_mlp_gradients, setup_context=_keep_mlp)


def _product(gradient: Tensor, given: Tensor, wanted: bool) -> Tensor | None:
    """The gradient of a matrix, from that of its results and what it was given, over all rows."""
    return gradient.T @ given if wanted else None


def _sum(shares: Tensor, wanted: bool) -> Tensor | None:
    return shares.sum(0) if wanted else None


def _contiguous(*tensors: Tensor) -> tuple[Tensor, ...]:
    return tuple(tensor.contiguous() for tensor in tensors)


def _tile(x: Tensor, precision: str) -> Tile:
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


def _check(
    x: Tensor, modulation: Tensor, mask: Tensor | None,
    weights: AttentionBlockWeights | MlpBlockWeights, precision: str,
) -> None:  # fmt: skip
    """A kernel would read other bytes than meant."""
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
    for name, tensor in weights._asdict().items():
        expected[name] = (tensor, storage if tensor.ndim == 2 else torch.float32)
    for name, (tensor, dtype) in expected.items():
        if tensor.dtype != dtype:
            raise TypeError(
                f"{name} must be {dtype} in precision {precision!r}, got {tensor.dtype}"
            )
