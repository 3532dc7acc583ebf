"""How work is cut, as a pure function of sizes."""

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import given
from hypothesis import strategies as st

from dmpc_fast.kernels.precision import PRECISIONS
from dmpc_fast.kernels.tiles import MAX_ROWS, choose_tile, power_of_two, refusal


@given(
    tokens=st.integers(1, 128), width=st.integers(1, 1024), units=st.integers(1, 64),
    robots=st.integers(1, 300), count=st.integers(1, 5000), processors=st.integers(1, 200),
    precision=st.sampled_from([p.inner for p in PRECISIONS.values()]),
)  # fmt: skip
def test_tiles_cover_the_work(
    tokens: int, width: int, units: int, robots: int, count: int, processors: int, precision: str
) -> None:
    if refusal(tokens, width) is not None:
        with pytest.raises(ValueError, match="at most"):
            choose_tile(
                tokens=tokens, width=width, units=units, robots=robots, count=count,
                processors=processors, precision=precision,
            )  # fmt: skip
        return
    tile = choose_tile(
        tokens=tokens, width=width, units=units, robots=robots, count=count, processors=processors,
        precision=precision,
    )  # fmt: skip
    candidates = tile.rows // tile.tokens
    tiles, splits, outer = tile.grid(robots, count)
    assert tile.rows % tile.tokens == 0
    assert tile.tokens >= tokens
    assert tile.width >= width
    assert 16 <= tile.rows <= MAX_ROWS
    assert (tiles - 1) * candidates < count <= tiles * candidates
    assert outer == robots
    # Every split has work, and only where processors would stand idle otherwise.
    share = -(-units // splits)
    assert (splits - 1) * share < units
    assert splits == 1 or tiles * robots * splits <= processors


def test_paper_sizes_fill_a_large_chip() -> None:
    def tile(count: int) -> tuple[int, int]:
        chosen = choose_tile(
            tokens=32, width=256, units=8, robots=1, count=count, processors=132, precision="bf16"
        )
        return chosen.rows, chosen.splits

    assert tile(64) == (32, 2)
    assert tile(256) == (32, 1)
    assert tile(1024) == (64, 1)


def test_what_does_not_fit_is_named() -> None:
    assert refusal(128, 256) is None
    assert "tokens must be at most 128, got 129" in str(refusal(129, 16))
    assert "width must be at most 1024, got 1025" in str(refusal(8, 1025))
    assert "tokens times width" in str(refusal(128, 1024))


@pytest.mark.parametrize(("value", "expected"), [(1, 1), (2, 2), (3, 4), (16, 16), (17, 32)])
def test_powers_of_two(value: int, expected: int) -> None:
    assert power_of_two(value) == expected
