"""The fused attention of a block as an operator that torch can differentiate, trace and compile around.

A forward kernel, a backward kernel and, after it, products of torch: the gradients of the weights are
those of whole batches, which its libraries multiply best. Compilers see two opaque operators and those
products. There are no second derivatives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dmpc_fast.kernels.attention_block import AttentionBlockWeights, attention_block
from dmpc_fast.kernels.attention_block_backward import (
    AttentionBlockGradients,
    attention_block_backward,
)
from dmpc_fast.kernels.operators import (
    check_tensors,
    contiguous,
    like,
    like_gradients,
    matrix_gradient,
    sum_of_shares,
    tile_of,
)


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
    check_tensors(x, modulation, mask, weights._asdict(), precision)
    out: Tensor = _attention(x, modulation, mask, *weights, heads, precision)[0]
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
    weights = AttentionBlockWeights(*contiguous(qkv, qkv_bias, projection, projection_bias))
    with torch.cuda.device_of(x):
        return attention_block(
            x.contiguous(), modulation, None if mask is None else mask.contiguous(), weights,
            heads=heads, tile=tile_of(x, precision), precision=precision,
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
    weights = AttentionBlockWeights(*contiguous(qkv, qkv_bias, projection, projection))
    with torch.cuda.device_of(x):
        found = attention_block_backward(
            d_out.contiguous(), x.contiguous(), modulation,
            None if mask is None else mask.contiguous(), weights, update.contiguous(),
            heads=heads, tile=tile_of(x, precision), precision=precision,
        )  # fmt: skip
    return list(found)


@_attention.register_fake
def _(
    x: Tensor, modulation: Tensor, mask: Tensor | None, qkv: Tensor, *rest: Any
) -> tuple[Tensor, Tensor]:
    return like(x), x.new_empty(x.shape, dtype=qkv.dtype)


@_attention_backward.register_fake
def _(
    d_out: Tensor, x: Tensor, modulation: Tensor, mask: Tensor | None, qkv: Tensor,
    qkv_bias: Tensor, projection: Tensor, update: Tensor, heads: int, precision: str,
) -> list[Tensor]:  # fmt: skip
    width, inner = projection.shape
    return like_gradients(x, qkv, precision, (width, width, inner, 3 * inner))


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
        matrix_gradient(found.d_qkv, found.rows, ctx.needs_input_grad[3]),
        sum_of_shares(found.qkv_bias, ctx.needs_input_grad[4]),
        matrix_gradient(found.d_update, found.attended, ctx.needs_input_grad[5]),
        sum_of_shares(found.projection_bias, ctx.needs_input_grad[6]),
        None,
        None,
    )


_attention.register_autograd(_attention_gradients, setup_context=_keep_attention)
