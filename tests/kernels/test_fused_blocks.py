"""The differentiable blocks and their gradients against plain torch in float64, on odd sizes."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from op_bounds import error, limit
from torch import Tensor

from dmpc_fast.kernels.attention_block import AttentionBlockWeights, attention_block_reference
from dmpc_fast.kernels.fused_attention import fused_attention
from dmpc_fast.kernels.fused_mlp import fused_mlp
from dmpc_fast.kernels.mlp_block import MlpBlockWeights, mlp_block_reference
from dmpc_fast.kernels.precision import PRECISIONS


class Sizes(NamedTuple):
    """samples N, tokens T, width W, heads, head_size, hidden M, and whether tokens are masked."""

    count: int
    tokens: int
    width: int
    heads: int
    head_size: int
    hidden: int
    masked: bool


CASES = {
    "one-of-everything": Sizes(1, 1, 1, 1, 1, 1, masked=False),
    "odd": Sizes(7, 3, 17, 2, 5, 33, masked=True),
    "several-chunks": Sizes(3, 5, 24, 1, 70, 130, masked=False),
    "many-tokens": Sizes(2, 19, 20, 2, 7, 40, masked=True),
}
#: What a gradient is of, in the order of `Given.leaves`.
NAMES = ("x", "modulation", "first", "first_bias", "second", "second_bias")


class Given(NamedTuple):
    """Tensors to differentiate by, what each is a tensor of standing in `NAMES`; the mask; and the
    gradient of the result."""

    leaves: tuple[Tensor, ...]
    mask: Tensor | None
    d_out: Tensor


def given(sizes: Sizes, kind: str, device: torch.device) -> Given:
    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, device=device)

    count, tokens, width = sizes.count, sizes.tokens, sizes.width
    inner = sizes.heads * sizes.head_size
    first, second = (3 * inner, inner) if kind == "attention" else (sizes.hidden, sizes.hidden)
    mask = None
    if sizes.masked:
        lengths = torch.randint(1, tokens + 1, (count, 1), device=device)
        hidden = torch.arange(tokens, device=device) >= lengths
        mask = torch.zeros(count, tokens, device=device).masked_fill(hidden, float("-inf"))
    leaves = (
        normal(count, tokens, width), normal(count, 3 * width, scale=0.5),
        normal(first, width, scale=width**-0.5), normal(first, scale=0.1),
        normal(width, second, scale=second**-0.5), normal(width, scale=0.1),
    )  # fmt: skip
    return Given(leaves, mask, normal(count, tokens, width))


def plain(kind: str, sizes: Sizes, inputs: Given, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The result and all gradients by torch's own autograd."""
    leaves = [leaf.to(dtype).requires_grad_() for leaf in inputs.leaves]
    if kind == "attention":
        mask = None if inputs.mask is None else inputs.mask.to(dtype)
        weights = AttentionBlockWeights(*leaves[2:])
        out = attention_block_reference(*leaves[:2], mask, weights, heads=sizes.heads)
    else:
        out = mlp_block_reference(*leaves[:2], MlpBlockWeights(*leaves[2:]))
    return out.detach(), *torch.autograd.grad(out, leaves, inputs.d_out.to(dtype))


def fused(kind: str, sizes: Sizes, inputs: Given, precision: str) -> tuple[Tensor, ...]:
    """The same by the kernels; weights are float32 parameters that are cast, as in training."""
    leaves = [leaf.clone().requires_grad_() for leaf in inputs.leaves]
    storage = PRECISIONS[precision].storage
    # Rows that do not follow each other, as chunks of all modulations of a layer.
    modulation = torch.cat([leaves[1], torch.zeros_like(leaves[1])], -1).chunk(2, dim=-1)[0]
    stored = [w.to(storage) if w.ndim == 2 else w for w in leaves[2:]]
    if kind == "attention":
        weights = AttentionBlockWeights(*stored)
        out = fused_attention(
            leaves[0], modulation, inputs.mask, weights, heads=sizes.heads, precision=precision
        )
    else:
        out = fused_mlp(leaves[0], modulation, MlpBlockWeights(*stored), precision=precision)
    return out.detach(), *torch.autograd.grad(out, leaves, inputs.d_out)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", ["attention", "mlp"])
@pytest.mark.parametrize("sizes", CASES.values(), ids=CASES)
def test_blocks_and_gradients(
    sizes: Sizes, kind: str, precision: str, device: torch.device
) -> None:
    inputs = given(sizes, kind, device)
    exact = plain(kind, sizes, inputs, torch.float64)
    single = plain(kind, sizes, inputs, torch.float32)
    found = fused(kind, sizes, inputs, precision)
    for name, value, own, reference in zip(("out", *NAMES), found, single, exact, strict=True):
        passes = 1 if name == "out" else 2
        bound = limit(precision, lambda own=own: own, reference, passes)  # type: ignore[misc]
        assert error(value, reference) <= bound, name


@pytest.mark.parametrize("kind", ["attention", "mlp"])
def test_the_same_bits_again(kind: str, device: torch.device) -> None:
    inputs = given(CASES["odd"], kind, device)
    first, second = (fused(kind, CASES["odd"], inputs, "float32") for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_sample_without_tokens_attends_to_nothing(device: torch.device) -> None:
    sizes = CASES["odd"]
    inputs = given(sizes, "attention", device)
    mask = torch.zeros(sizes.count, sizes.tokens, device=device)
    mask[2] = float("-inf")
    found = fused("attention", sizes, inputs._replace(mask=mask), "float32")
    assert all(tensor.isfinite().all() for tensor in found)
    x, modulation, bias = inputs.leaves[0], inputs.leaves[1], inputs.leaves[5]
    gate = modulation[2, 2 * sizes.width :]
    torch.testing.assert_close(found[0][2], x[2] + gate * bias)


@pytest.mark.parametrize("kind", ["attention", "mlp"])
def test_operators_are_well_behaved(kind: str, device: torch.device) -> None:
    sizes = Sizes(2, 3, 5, 1, 4, 6, masked=True)
    inputs = given(sizes, kind, device)
    x, modulation, *weights = (leaf.requires_grad_() for leaf in inputs.leaves)
    arguments = (
        (x, modulation, inputs.mask, *weights, sizes.heads, "float32")
        if kind == "attention"
        else (x, modulation, *weights, "float32")
    )
    torch.library.opcheck(getattr(torch.ops.dmpc_fast, f"{kind}_block").default, arguments)


def test_compilers_see_no_breaks(device: torch.device) -> None:
    sizes = Sizes(2, 3, 5, 1, 4, 6, masked=True)
    inputs = given(sizes, "attention", device)
    mlp = given(sizes, "mlp", device)

    def both(x: Tensor, modulation: Tensor, weights: list[Tensor], others: list[Tensor]) -> Tensor:
        x = fused_attention(
            x, modulation, inputs.mask, AttentionBlockWeights(*weights), heads=1,
            precision="float32",
        )  # fmt: skip
        return (
            fused_mlp(x, modulation, MlpBlockWeights(*others), precision="float32").square().sum()
        )

    def gradients(function) -> tuple[Tensor, ...]:  # type: ignore[no-untyped-def]
        leaves = [leaf.clone().requires_grad_() for leaf in (*inputs.leaves, *mlp.leaves[2:])]
        return torch.autograd.grad(function(*leaves[:2], leaves[2:6], leaves[6:]), leaves)

    compiled = torch.compile(both, backend="aot_eager", fullgraph=True, dynamic=False)
    for one, other in zip(gradients(compiled), gradients(both), strict=True):
        torch.testing.assert_close(one, other)


def test_second_derivatives_are_refused(device: torch.device) -> None:
    inputs = given(CASES["odd"], "mlp", device)
    x, modulation, *weights = (leaf.requires_grad_() for leaf in inputs.leaves)
    out = fused_mlp(x, modulation, MlpBlockWeights(*weights), precision="float32")
    (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="autograd"):
        first.sum().backward()


def test_other_dtypes_and_shapes_are_refused(device: torch.device) -> None:
    x, modulation, *weights = given(CASES["odd"], "mlp", device).leaves
    with pytest.raises(TypeError, match="into must be torch.bfloat16"):
        fused_mlp(x, modulation, MlpBlockWeights(*weights), precision="bf16")
    with pytest.raises(
        ValueError, match=r"modulation must have the shape \(7, 51\), got \(7, 50\)"
    ):
        fused_mlp(x, modulation[:, 1:], MlpBlockWeights(*weights), precision="float32")
    with pytest.raises(TypeError, match=r"x must be torch.float32"):
        fused_mlp(x.double(), modulation, MlpBlockWeights(*weights), precision="float32")
