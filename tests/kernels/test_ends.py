"""Embedding, sampler row and last layer against their plain references, on odd sizes."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from op_bounds import double, empty, error, limit
from torch import Tensor

from dmpc_fast.kernels.embedding import EmbeddingWeights, embedding, embedding_reference
from dmpc_fast.kernels.precision import PRECISIONS
from dmpc_fast.kernels.stream import no_parts
from dmpc_fast.kernels.tiles import Tile, choose_tile
from dmpc_fast.kernels.update import (
    Edge,
    LastLayer,
    Row,
    outputs,
    outputs_reference,
    update,
    update_reference,
)


class Sizes(NamedTuple):
    """robots B, candidates N of which `count` from `first` on are computed, tokens T, patch, width W,
    noisy and clean features of a step, and parts of the stream."""

    robots: int
    total: int
    first: int
    count: int
    tokens: int
    patch: int
    width: int
    noisy: int
    clean: int
    parts: int = 0


CASES = {
    "one-of-everything": Sizes(1, 1, 0, 1, 1, 1, 1, 1, 0),
    "odd": Sizes(2, 7, 0, 7, 3, 1, 17, 5, 3),
    "part-of-the-candidates": Sizes(2, 9, 3, 5, 5, 2, 24, 3, 0, parts=2),
    "many-features": Sizes(1, 3, 1, 2, 2, 4, 33, 19, 3),
}


def tile_of(sizes: Sizes) -> Tile:
    return choose_tile(
        tokens=sizes.tokens, width=sizes.width, units=1, robots=sizes.robots, count=sizes.count,
        processors=3, precision="ieee",
    )  # fmt: skip


def trajectories(sizes: Sizes, features: int, device: torch.device) -> Tensor:
    steps = sizes.tokens * sizes.patch
    return torch.randn(sizes.robots, sizes.total, steps, features, device=device)


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("sizes", CASES.values(), ids=CASES)
def test_embedding(sizes: Sizes, precision: str, device: torch.device) -> None:
    features = [sizes.patch * sizes.noisy, sizes.patch * sizes.clean]
    weights = EmbeddingWeights(
        *(
            torch.randn(size, sizes.width, device=device) / sum(features) ** 0.5
            for size in features
        ),
        torch.randn(sizes.tokens, sizes.width, device=device),
    )
    given = [trajectories(sizes, size, device) for size in (sizes.noisy, sizes.clean)]
    offset = torch.randn(sizes.robots, sizes.width, device=device)
    out = empty(sizes.robots, sizes.count, sizes.tokens, sizes.width, device=device)
    ends = PRECISIONS[precision].ends
    embedding(*given, weights, offset, out, first=sizes.first, tile=tile_of(sizes), precision=ends)
    chosen = slice(sizes.first, sizes.first + sizes.count)
    exact = embedding_reference(*double((*given, weights, offset)))[:, chosen]  # type: ignore[misc]
    bound = limit(precision, lambda: embedding_reference(*given, weights, offset)[:, chosen], exact)
    assert error(out, exact) <= bound


def layer_of(
    sizes: Sizes, features: int, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, LastLayer]:
    """A stream of the computed candidates, its parts, a modulation and the last layer."""
    x = torch.randn(sizes.robots, sizes.count, sizes.tokens, sizes.width, device=device)
    parts = torch.randn(sizes.parts, *x.shape, device=device) if sizes.parts else no_parts(x)
    modulation = torch.randn(sizes.robots, 2 * sizes.width, device=device)
    size = sizes.patch * features
    matrix = torch.randn(sizes.width, size, device=device) / sizes.width**0.5
    return x, parts, modulation, LastLayer(matrix, torch.randn(size, device=device))


@pytest.mark.parametrize("precision", ["float32", "tf32"])
@pytest.mark.parametrize("last", [False, True], ids=["between", "last"])
@pytest.mark.parametrize("sizes", CASES.values(), ids=CASES)
def test_update(sizes: Sizes, last: bool, precision: str, device: torch.device) -> None:
    stream = layer_of(sizes, sizes.noisy, device)
    noisy = trajectories(sizes, sizes.noisy, device)
    before, out = noisy.clone(), torch.full_like(noisy, float("nan"))
    row = Row(0.6, -0.8, 0.0, 1, 2)
    low = torch.full((sizes.noisy,), -0.7, device=device)
    scale = 0.5 + torch.rand(sizes.noisy, device=device)
    edge = Edge(
        torch.randn(sizes.noisy, device=device), scale, low, low.new_full(low.shape, torch.inf)
    )
    unread = torch.zeros(1, device=device)
    update(
        *stream, noisy, unread, unread, row=row, first=sizes.first, tile=tile_of(sizes),
        precision=PRECISIONS[precision].ends, edge=edge if last else None,
        out=out if last else None,
    )  # fmt: skip
    chosen = slice(sizes.first, sizes.first + sizes.count)

    def reference(*given: object) -> tuple[Tensor, Tensor | None]:
        x = given[4]
        return update_reference(*given[:5], torch.zeros_like(x), row, given[5])  # type: ignore

    given = (*stream, before[:, chosen], edge if last else None)
    exact, exact_real = reference(*double(given))  # type: ignore[misc]
    bound = limit(precision, lambda: reference(*given)[0], exact)
    assert error(noisy[:, chosen], exact) <= bound
    if exact_real is not None:
        assert error(out[:, chosen], exact_real) <= bound
        assert (out[:, chosen] >= low).all()
    others = torch.ones(sizes.total, dtype=torch.bool)
    others[chosen] = False
    assert torch.equal(noisy[:, others], before[:, others])


@pytest.mark.parametrize("sizes", CASES.values(), ids=CASES)
def test_outputs_without_a_row(sizes: Sizes, device: torch.device) -> None:
    stream = layer_of(sizes, 3, device)
    out = empty(sizes.robots, sizes.count, sizes.tokens * sizes.patch, 3, device=device)
    outputs(*stream, out, tile=tile_of(sizes), precision="ieee")
    exact = outputs_reference(*double(stream), 3)  # type: ignore[misc]
    assert error(out, exact) <= limit("float32", lambda: outputs_reference(*stream, 3), exact)


def test_an_edge_needs_somewhere_to_write(device: torch.device) -> None:
    sizes = CASES["odd"]
    noisy = trajectories(sizes, sizes.noisy, device)
    edge = Edge(noisy, noisy, noisy, noisy)
    with pytest.raises(ValueError, match="edge and out"):
        update(
            *layer_of(sizes, sizes.noisy, device), noisy, noisy, noisy,
            row=Row(1.0, 1.0, 0.0, 0, 1), first=0, tile=tile_of(sizes), precision="ieee", edge=edge,
        )  # fmt: skip
