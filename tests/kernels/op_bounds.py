"""How far an op may be from its plain reference in float64: twice what torch is, and a few roundings.

One table for all ops: no bound stands at a call site.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

#: Precision -> unit of rounding of the operands of products. Sums are float32 in all of them.
ROUNDING = {"float32": 2.0**-23, "tf32": 2.0**-10, "bf16": 2.0**-8}
FACTOR, ROUNDINGS = 2.0, 4.0


def error(values: Tensor, reference: Tensor) -> float:
    """rms(values - reference) / rms(reference), of references at the scale of one or above."""
    assert values.shape == reference.shape
    assert values.isfinite().all()
    difference = values.double().cpu() - reference.double().cpu()
    scale = float(reference.double().square().mean().sqrt())
    return float(difference.square().mean().sqrt()) / max(1.0, scale)


def limit(
    precision: str, in_float32: Callable[[], Tensor], reference: Tensor, passes: int = 1
) -> float:
    """The largest error of an op in a precision.

    in_float32: the plain reference computed in float32. What a coarser precision adds is what its
    operands lose by rounding. passes: through the op's products, 2 for a gradient, which goes
    through those of the op and then through its own.
    """
    return passes * (FACTOR * error(in_float32(), reference) + ROUNDINGS * ROUNDING[precision])


def double(value: object) -> object:
    """Tensors, and tuples of them, in float64."""
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, tuple):
        parts = [double(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def empty(*shape: int, device: torch.device) -> Tensor:
    """An output that is NaN wherever it is not written."""
    return torch.full(shape, float("nan"), device=device)
