"""The random stream: known answers, the documented counters, and Python against C++."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmpc_fast import _engine
from dmpc_fast.philox import batched_normals, normals, philox4x32

WORD = st.integers(0, 2**32 - 1)
SEED = st.integers(0, 2**64 - 1)
ONES = 0xFFFFFFFF


@pytest.mark.parametrize(
    ("counter", "seed", "expected"),
    [
        ([0, 0, 0, 0], 0, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([ONES] * 4, 2**64 - 1, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            0x299F31D0A4093822,
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_known_answers_of_the_generators_authors(
    counter: list[int], seed: int, expected: list[int]
) -> None:
    words = np.array([counter], np.uint32)
    assert philox4x32(words, seed)[0].tolist() == expected
    assert _engine.philox(words, seed)[0].tolist() == expected


@given(counters=st.lists(st.tuples(WORD, WORD, WORD, WORD), max_size=20), seed=SEED)
def test_integers_agree_bit_for_bit(counters: list[tuple[int, ...]], seed: int) -> None:
    words = np.array(counters, np.uint32).reshape(-1, 4)
    np.testing.assert_array_equal(_engine.philox(words, seed), philox4x32(words, seed))


@given(
    seed=SEED,
    candidates=st.lists(WORD, min_size=1, max_size=5),
    plan_index=st.integers(0, 2**40),
    robot=st.integers(0, 2**16 - 1),
    stage=st.integers(0, 1),
    step=st.integers(0, 255),
    steps=st.integers(1, 9),
    size=st.integers(1, 7),
)
def test_normals_agree_to_the_last_place(**position: int | list[int]) -> None:
    position["candidates"] = np.array(position["candidates"], np.uint32)
    reference = normals(**position)
    found = _engine.normals(**position)
    assert found.dtype == np.float32 and found.shape == reference.shape
    np.testing.assert_array_max_ulp(found, reference.astype(np.float32), maxulp=1)


def test_normals_are_exact_where_the_uniform_number_is_next_to_one() -> None:
    """-2 log u there is the distance to 1, which must not be lost in rounding u."""
    seed, candidates = 5, np.arange(40_000, dtype=np.uint32)
    counter = np.zeros((len(candidates), 4), np.uint32)
    counter[:, 1] = candidates
    rare = candidates[philox4x32(counter, seed)[:, 0] >= 2**32 - 2**20]
    assert len(rare) > 3
    position = {
        "seed": seed,
        "candidates": rare,
        "plan_index": 0,
        "robot": 0,
        "stage": 0,
        "step": 0,
        "steps": 1,
        "size": 2,
    }
    reference = normals(**position)
    assert np.hypot(*reference[:, 0].T).max() < 0.03
    np.testing.assert_array_max_ulp(
        _engine.normals(**position), reference.astype(np.float32), maxulp=1
    )


def test_counter_words_are_those_of_the_contract() -> None:
    """(element // 4, candidate, plan index, robot << 16 | stage << 8 | step)."""
    found = normals(
        seed=9, candidates=np.array([6]), plan_index=2**32 + 3, robot=4, stage=1, step=7, steps=3,
        size=5,
    )  # fmt: skip
    for element in range(15):
        counter = np.array([element // 4, 6, 3, 4 << 16 | 1 << 8 | 7], np.uint32)
        u = ((philox4x32(counter, 9) >> 8) + 0.5) / 2**24
        pair = u[2 * (element % 4 // 2) :]
        angle = 2 * np.pi * pair[1]
        turn = np.sin(angle) if element % 2 else np.cos(angle)
        expected = np.sqrt(-2 * np.log(pair[0])) * turn
        assert found[0, element // 5, element % 5] == pytest.approx(expected, rel=1e-12)


def test_robots_of_a_batch_have_the_streams_they_have_alone() -> None:
    rng = np.random.default_rng()
    robots, plans = rng.integers(0, 2**16, 3), rng.integers(0, 2**32, 3)
    shared = {"seed": int(rng.integers(2**63)), "candidates": np.arange(4), "stage": 1, "step": 2}
    batch = batched_normals(**shared, plan_index=plans, robots=robots, steps=3, size=5)
    for i in range(3):
        alone = normals(**shared, plan_index=plans[i], robot=robots[i], steps=3, size=5)
        np.testing.assert_array_equal(batch[i], alone)


def test_moments_are_those_of_a_standard_normal() -> None:
    values = normals(
        seed=int(np.random.default_rng().integers(2**63)), candidates=np.arange(64), plan_index=1,
        robot=0, stage=0, step=0, steps=32, size=64,
    ).ravel()  # fmt: skip
    error = 6 / np.sqrt(len(values))
    assert abs(values.mean()) < error
    assert abs(values.var() - 1) < error * np.sqrt(2)
    assert abs((values**4).mean() - 3) < error * np.sqrt(96)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_outside_64_bits_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match="seed must be"):
        philox4x32(np.zeros((1, 4), np.uint32), seed)
    with pytest.raises(TypeError):
        _engine.philox(np.zeros((1, 4), np.uint32), seed)


@pytest.mark.parametrize(("robot", "step"), [(2**16, 0), (-1, 0), (0, 256), (0, -1)])
def test_a_position_outside_its_bits_is_refused(robot: int, step: int) -> None:
    position = {
        "seed": 0,
        "candidates": np.zeros(1, np.uint32),
        "plan_index": 0,
        "robot": robot,
        "stage": 0,
        "step": step,
        "steps": 1,
        "size": 1,
    }
    for function in (normals, _engine.normals):
        with pytest.raises(ValueError, match=r"robot|step"):
            function(**position)


@pytest.mark.parametrize(
    ("counter", "error"),
    [
        (np.zeros((2, 4)), TypeError),
        (np.zeros((2, 4), np.int32), TypeError),
        (np.zeros((2, 4), ">u4"), TypeError),
        ([[1, 2, 3, 4]], TypeError),
        (np.zeros((2, 5), np.uint32), ValueError),
        (np.zeros(4, np.uint32), ValueError),
        (np.zeros((4, 2), np.uint32).T, ValueError),
        (np.zeros((2, 8), np.uint32)[:, ::2], ValueError),
        (np.zeros(33, np.uint8)[1:].view(np.uint32).reshape(2, 4), ValueError),
    ],
)
def test_the_binding_casts_and_copies_nothing(counter: np.ndarray, error: type[Exception]) -> None:
    with pytest.raises(error, match="counter"):
        _engine.philox(counter, 0)
