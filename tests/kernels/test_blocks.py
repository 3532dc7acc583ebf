"""Attention and MLP of a block against their plain references, on odd sizes, whole and split."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from op_bounds import double, empty, error, limit
from torch import Tensor

from dmpc_fast.kernels.attention import AttentionWeights, attention, attention_reference
from dmpc_fast.kernels.mlp import MlpWeights, mlp, mlp_reference
from dmpc_fast.kernels.precision import PRECISIONS
from dmpc_fast.kernels.stream import no_parts
from dmpc_fast.kernels.tiles import Tile, choose_tile


class Sizes(NamedTuple):
    """robots B, count C, tokens T, width W, heads, head_size, hidden M; parts P of the given stream
    and splits of what is made of it."""

    robots: int
    count: int
    tokens: int
    width: int
    heads: int
    head_size: int
    hidden: int
    parts: int = 0
    splits: int = 1


CASES = {
    "one-of-everything": Sizes(1, 1, 1, 1, 1, 1, 1),
    "odd": Sizes(2, 5, 3, 17, 3, 5, 33),
    "aligned": Sizes(1, 4, 8, 32, 2, 16, 64),
    "several-chunks": Sizes(1, 2, 5, 24, 1, 70, 130),
    "many-tokens": Sizes(1, 3, 65, 20, 2, 7, 19),
    "whole-to-split": Sizes(2, 3, 4, 24, 3, 6, 100, splits=2),
    "split-to-split": Sizes(1, 5, 6, 33, 5, 4, 90, parts=3, splits=2),
    "split-to-whole": Sizes(2, 2, 7, 40, 2, 9, 50, parts=2),
}


def tile_of(sizes: Sizes, precision: str) -> Tile:
    tile = choose_tile(
        tokens=sizes.tokens, width=sizes.width, units=1, robots=sizes.robots, count=sizes.count,
        processors=3, precision=PRECISIONS[precision].inner,
    )  # fmt: skip
    # Few columns at once, so that small sizes take several turns.
    return tile._replace(splits=sizes.splits, columns=32)


def stream(sizes: Sizes, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """x, parts, and a modulation whose rows are not contiguous."""
    shape = (sizes.robots, sizes.count, sizes.tokens, sizes.width)
    modulation = torch.randn(sizes.robots, 5 * sizes.width, device=device)
    parts = torch.randn(sizes.parts, *shape, device=device) if sizes.parts else None
    x = torch.randn(shape, device=device)
    return (
        x,
        no_parts(x) if parts is None else parts,
        modulation[:, sizes.width :][:, : -sizes.width],
    )


def matrix(rows: int, columns: int, device: torch.device) -> Tensor:
    return torch.randn(rows, columns, device=device) / rows**0.5


def run(op, sizes: Sizes, given, weights, precision: str, **options):  # type: ignore[no-untyped-def]
    """The stream that an op writes, its parts added up."""
    x = given[0]
    storage = PRECISIONS[precision].storage
    stored = type(weights)(*(w.to(storage) if w.ndim == 2 else w for w in weights))
    out, out_parts = (
        empty(*x.shape, device=x.device),
        empty(sizes.splits, *x.shape, device=x.device),
    )
    tile = tile_of(sizes, precision)
    inner = PRECISIONS[precision].inner
    op(*given, stored, out, out_parts, tile=tile, precision=inner, **options)
    return out + out_parts.sum(0) if sizes.splits > 1 else out


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("sizes", CASES.values(), ids=CASES)
def test_attention(sizes: Sizes, precision: str, device: torch.device) -> None:
    inner = sizes.heads * sizes.head_size
    weights = AttentionWeights(
        matrix(sizes.width, 3 * inner, device), 0.1 * torch.randn(3 * inner, device=device),
        matrix(inner, sizes.width, device), 0.1 * torch.randn(sizes.width, device=device),
    )  # fmt: skip
    given = stream(sizes, device)
    heads = {"heads": sizes.heads}
    found = run(attention, sizes, given, weights, precision, **heads)
    exact = attention_reference(*double((*given, weights)), **heads)  # type: ignore[misc]
    bound = limit(precision, lambda: attention_reference(*given, weights, **heads), exact)
    assert error(found, exact) <= bound
    again = run(attention, sizes, given, weights, precision, **heads)
    assert torch.equal(found, again)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("sizes", CASES.values(), ids=CASES)
def test_mlp(sizes: Sizes, precision: str, device: torch.device) -> None:
    weights = MlpWeights(
        matrix(sizes.width, sizes.hidden, device), 0.1 * torch.randn(sizes.hidden, device=device),
        matrix(sizes.hidden, sizes.width, device), 0.1 * torch.randn(sizes.width, device=device),
    )  # fmt: skip
    given = stream(sizes, device)
    found = run(mlp, sizes, given, weights, precision)
    exact = mlp_reference(*double((*given, weights)))  # type: ignore[misc]
    bound = limit(precision, lambda: mlp_reference(*given, weights), exact)
    assert error(found, exact) <= bound
    assert torch.equal(found, run(mlp, sizes, given, weights, precision))
