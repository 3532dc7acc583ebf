"""The noise process and the compiled samplers, also against C++."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmpc_fast import _engine, noise
from dmpc_fast.spec import ModelFileError, SamplerSpec

ANGLE = st.floats(1e-3, math.pi / 2)
ANGLES = st.lists(ANGLE, min_size=1, max_size=20, unique=True).map(
    lambda angles: tuple(sorted(angles, reverse=True))
)
RULES = ("ddim", "consistency")


def trajectory(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(3, 4, 5)), rng.normal(size=(3, 4, 5))


@given(angle=st.floats(0, math.pi / 2))
def test_the_true_velocity_denoises_exactly(angle: float) -> None:
    clean, eps = trajectory(np.random.default_rng())
    noisy = noise.diffuse(clean, eps, angle)
    v = noise.velocity(clean, eps, angle)
    np.testing.assert_allclose(noise.denoise(noisy, v, angle), clean, atol=1e-14)


@given(angle=ANGLE, target=ANGLE)
def test_a_ddim_step_with_the_true_velocity_is_the_diffusion_at_the_target(
    angle: float, target: float
) -> None:
    clean, eps = trajectory(np.random.default_rng())
    noisy, v = noise.diffuse(clean, eps, angle), noise.velocity(clean, eps, angle)
    moved = noise.rotate(noisy, v, angle, target)
    np.testing.assert_allclose(moved, noise.diffuse(clean, eps, target), atol=1e-13)


def test_the_consistency_function_is_the_identity_at_zero() -> None:
    x, v = trajectory(np.random.default_rng())
    np.testing.assert_array_equal(noise.denoise(x, v, 0.0), x)


@given(angles=ANGLES)
def test_ddim_rows_are_rotations(angles: tuple[float, ...]) -> None:
    rng = np.random.default_rng()
    rows = noise.compile_sampler(SamplerSpec("ddim", angles))
    assert [row.t for row in rows] == list(angles)
    assert [row.s for row in rows] == [*angles[1:], 0.0]
    for row in rows:
        x, v = trajectory(rng)
        np.testing.assert_allclose(
            row.a * x + row.b * v, noise.rotate(x, v, row.t, row.s), atol=1e-14
        )
        assert row.noise == 0.0


@given(angles=ANGLES)
def test_consistency_rows_denoise_and_diffuse_again(angles: tuple[float, ...]) -> None:
    rng = np.random.default_rng()
    rows = noise.compile_sampler(SamplerSpec("consistency", angles))
    for row, target in zip(rows, (*angles[1:], 0.0), strict=True):
        x, v = trajectory(rng)
        eps = rng.normal(size=x.shape)
        expected = noise.diffuse(noise.denoise(x, v, row.t), eps, target)
        np.testing.assert_allclose(row.a * x + row.b * v + row.noise * eps, expected, atol=1e-14)
        assert row.s == 0.0
    assert rows[-1].noise == 0.0


@given(rule=st.sampled_from(RULES), angles=ANGLES)
def test_both_compilers_give_the_same_rows(rule: str, angles: tuple[float, ...]) -> None:
    expected = np.array(noise.compile_sampler(SamplerSpec(rule, angles)))
    found = _engine.sampler_rows(rule, angles)
    np.testing.assert_array_equal(found[:, :2], expected[:, :2])
    np.testing.assert_array_max_ulp(found.astype(np.float32), expected.astype(np.float32), maxulp=1)
    np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-16)


@pytest.mark.parametrize(
    ("rule", "angles"),
    [
        ("euler", [1.0]),
        ("ddim", []),
        ("ddim", [1.0, 1.0]),
        ("ddim", [0.5, 1.0]),
        ("ddim", [1.6]),
        ("ddim", [0.0]),
        ("ddim", [math.nan]),
        ("ddim", [0.1] * 256),
    ],
)
def test_an_illegal_sampler_is_refused_by_both(rule: str, angles: list[float]) -> None:
    with pytest.raises(ModelFileError, match="sampler"):
        SamplerSpec(rule, tuple(angles))
    with pytest.raises(ModelFileError, match="sampler"):
        _engine.sampler_rows(rule, angles)


def test_angle_features_are_sines_then_cosines_of_geometric_frequencies() -> None:
    features = noise.angle_features(np.array([0.0, 0.7]))
    assert features.shape == (2, 32) and features.dtype == np.float64
    np.testing.assert_array_equal(features[0], [0.0] * 16 + [1.0] * 16)
    assert features[1, 0] == pytest.approx(math.sin(0.7))
    assert features[1, 15] == pytest.approx(math.sin(64 * 0.7))
    assert features[1, 17] == pytest.approx(math.cos(0.7 * 64 ** (1 / 15)))
