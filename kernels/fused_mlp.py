"""The fused MLP of a block as an operator that torch can differentiate, trace and compile around.

A forward kernel, a backward kernel and, after it, products of torch: the gradients of the weights are
those of whole batches, which its libraries multiply best. Compilers see two opaque operators and those
products. There are no second derivatives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dmpc_fast.kernels.mlp_block import (
    MlpBlockGradients,
    MlpBlockWeights,
    mlp_block,
    mlp_block_backward,
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


def fused_mlp(x: Tensor, modulation: Tensor, weights: MlpBlockWeights, *, precision: str) -> Tensor:
    """The stream after the MLP (N, T, W): see `kernels.mlp_block`; differentiable and refused as in
    `fused_attention`."""
    check_tensors(x, modulation, None, weights._asdict(), precision)
    out: Tensor = _mlp(x, modulation, *weights, precision)[0]
    return out


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
    weights = MlpBlockWeights(*contiguous(into, into_bias, outward, outward_bias))
    with torch.cuda.device_of(x):
        return mlp_block(
            x.contiguous(), modulation, weights, tile=tile_of(x, precision), precision=precision
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
    weights = MlpBlockWeights(*contiguous(into, into_bias, outward, outward))
    with torch.cuda.device_of(x):
        found = mlp_block_backward(
            d_out.contiguous(), x.contiguous(), modulation, weights, update.contiguous(),
            tile=tile_of(x, precision), precision=precision,
        )  # fmt: skip
    return list(found)


@_mlp.register_fake
def _(x: Tensor, modulation: Tensor, into: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return like(x), x.new_empty(x.shape, dtype=into.dtype)


@_mlp_backward.register_fake
def _(
    d_out: Tensor, x: Tensor, modulation: Tensor, into: Tensor, into_bias: Tensor,
    outward: Tensor, update: Tensor, precision: str,
) -> list[Tensor]:  # fmt: skip
    width, hidden = outward.shape
    return like_gradients(x, into, precision, (width, width, hidden, hidden))


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
        matrix_gradient(found.d_hidden, found.rows, ctx.needs_input_grad[2]),
        sum_of_shares(found.into_bias, ctx.needs_input_grad[3]),
        matrix_gradient(found.d_update, found.active, ctx.needs_input_grad[4]),
        sum_of_shares(found.out_bias, ctx.needs_input_grad[5]),
        None,
    )


_mlp.register_autograd(_mlp_gradients, setup_context=_keep_mlp)
