"""How work is cut, as a pure function of sizes."""

from __future__ import annotations

import pytest

pytest.importorskip("hypothesis", reason="hypothesis is not installed")
from hypothesis import given
from hypothesis import strategies as st

from dmpc_fast.kernels.precision import PRECISIONS
from dmpc_fast.kernels.tiles import (
    MAX_ROWS,
    choose_tile,
    choose_training_tile,
    power_of_two,
    refusal,
    training_refusal,
)


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


@given(
    tokens=st.integers(1, 128), width=st.integers(1, 1024), count=st.integers(1, 5000),
    processors=st.integers(1, 200), precision=st.sampled_from([p.inner for p in PRECISIONS.values()]),
)  # fmt: skip
def test_training_tiles_cover_the_batch(
    tokens: int, width: int, count: int, processors: int, precision: str
) -> None:
    given = {"tokens": tokens, "width": width, "precision": precision}
    if training_refusal(**given) is not None:  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="at most"):
            choose_training_tile(**given, count=count, processors=processors)  # type: ignore[arg-type]
        return
    tile = choose_training_tile(**given, count=count, processors=processors)  # type: ignore[arg-type]
    tiles, splits, outer = tile.grid(1, count)
    samples = tile.rows // tile.tokens
    assert (splits, outer) == (1, 1)
    assert tile.rows % tile.tokens == 0
    assert (tiles - 1) * samples < count <= tiles * samples
    assert tile.columns >= 16


def test_paper_trains_in_bf16_and_in_float32() -> None:
    for precision, rows in (("bf16", 64), ("ieee", 32)):
        tile = choose_training_tile(
            tokens=32, width=256, count=4096, processors=132, precision=precision
        )
        assert tile.rows == rows
    assert "at most 8192 for products in ieee, got 64 and 256" in str(
        training_refusal(64, 256, "ieee")
    )


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
