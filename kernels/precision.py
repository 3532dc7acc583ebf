"""How products are computed: IEEE float32, TF32 or bfloat16 operands, always with float32 sums."""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Decided when this module is imported, as it is for every kernel.
INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
#: Sign, exponent and the 10 explicit bits of a TF32 significand.
_TF32_BITS = tl.constexpr(-(1 << 13))
#: Sign, exponent and the 7 explicit bits of a bfloat16 significand.
_BF16_BITS = tl.constexpr(-(1 << 16))


class Precision(NamedTuple):
    """inner: of the products of the blocks. ends: of the embedding and the last layer, whose rounding
    enters every sampler step while their cost is small. storage: of the blocks' weights.

    ``ieee`` and ``tf32`` products read float32 operands, ``bf16`` ones bfloat16 operands.
    """

    inner: str
    ends: str
    storage: torch.dtype


PRECISIONS = {
    "float32": Precision("ieee", "ieee", torch.float32),
    "tf32": Precision("tf32", "tf32", torch.float32),
    "bf16": Precision("bf16", "tf32", torch.bfloat16),
}


@triton.jit
def product(a, b, total, PRECISION: tl.constexpr):
    """total + a @ b in float32, the operands rounded to PRECISION.

    The interpreter multiplies in float32 whatever is asked for, and cannot multiply bfloat16: there
    the operands are rounded first, so that its results have the precision's own error.
    """
    if PRECISION == "bf16":
        a, b = rounded(a, tl.bfloat16), rounded(b, tl.bfloat16)
        if INTERPRETED:
            a, b = a.to(tl.float32), b.to(tl.float32)
        result = tl.dot(a, b, total)
    else:
        if INTERPRETED and PRECISION == "tf32":
            a, b = _truncated(a), _truncated(b)
        result = tl.dot(a, b, total, input_precision=PRECISION)
    return result


@triton.jit
def rounded(x, DTYPE: tl.constexpr):
    """x in a storage dtype, to nearest even as devices do; the interpreter alone would cut off."""
    if INTERPRETED and tl.bfloat16 == DTYPE and x.dtype == tl.float32:
        bits = x.to(tl.int32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) & _BF16_BITS
        x = bits.to(tl.float32, bitcast=True)
    return x.to(DTYPE)


@triton.jit
def _truncated(x):
    return (x.to(tl.int32, bitcast=True) & _TF32_BITS).to(tl.float32, bitcast=True)


def product_reference(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """a @ b in float64 of the operands as PRECISION rounds them."""
    if precision == "bf16":
        a, b = a.bfloat16(), b.bfloat16()
    elif precision == "tf32":
        a, b = ((x.view(torch.int32) & -(1 << 13)).view(torch.float32) for x in (a, b))
    return a.double() @ b.double()
