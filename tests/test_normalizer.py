"""Statistics, their affine maps, and the condition vector."""

from __future__ import annotations

import numpy as np
import pytest
from random_models import random_model

from dmpc_fast.normalizer import Affine, Normalizer, condition_vector
from dmpc_fast.spec import ModelSpec


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng()


def test_normalised_data_has_unit_statistics(rng: np.random.Generator) -> None:
    data = rng.normal(size=(500, 4)) * [1e-3, 1.0, 50.0, 7.0] + [5.0, 0.0, -200.0, 1.0]
    affine = Affine.from_moments(data.mean(0), data.std(0))
    assert affine.mean.dtype == affine.scale.dtype == np.float32
    normalised = affine.normalize(data)
    np.testing.assert_allclose(normalised.mean(0), 0.0, atol=1e-3)
    np.testing.assert_allclose(normalised.std(0), 1.0, rtol=1e-5)
    np.testing.assert_allclose(affine.denormalize(normalised), data, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 3.25, -1e6])
def test_a_constant_dimension_maps_to_zero(value: float) -> None:
    affine = Affine.from_moments(np.array([value, 0.0]), np.array([1e-8 * abs(value), 1.0]))
    assert affine.scale[0] == 1.0
    assert affine.normalize(np.array([value, 2.0], np.float32)).tolist() == [0.0, 2.0]


def test_tensors_round_trip(rng: np.random.Generator) -> None:
    normalizer = random_model(rng).normalizer
    again = Normalizer.from_tensors(normalizer.tensors())
    for name, tensor in normalizer.tensors().items():
        np.testing.assert_array_equal(again.tensors()[name], tensor)
    assert set(normalizer.tensors()) == {
        f"normalizer.{name}.{part}"
        for name in ("state", "action", "reward", "value")
        for part in ("mean", "scale")
    }


def history(
    rng: np.random.Generator, spec: ModelSpec, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    states = rng.normal(size=(count, spec.history, spec.state_size)).astype(np.float32)
    actions = rng.normal(size=(count, spec.history - 1, spec.action_size)).astype(np.float32)
    mask = np.ones((count, spec.history - 1), np.float32)
    return states, actions, mask


def test_the_condition_is_states_actions_mask_context(rng: np.random.Generator) -> None:
    model = random_model(rng, state=5, action=3, history=3, context=2)
    spec, normalizer = model.spec, model.normalizer
    states, actions, mask = history(rng, spec, 4)
    mask[:, 0] = [0, 1, 0, 1]
    context = rng.normal(size=(4, 2)).astype(np.float32)
    vector = condition_vector(normalizer, states, actions, mask, context)
    assert vector.shape == (4, spec.condition_size) and vector.dtype == np.float32
    for row in range(4):
        parts = np.split(vector[row], [15, 21, 23])
        weights = np.array([mask[row, 0], mask[row, 1], 1.0])[:, None]
        np.testing.assert_allclose(
            parts[0].reshape(3, 5), normalizer.state.normalize(states[row]) * weights, rtol=1e-6
        )
        np.testing.assert_allclose(
            parts[1].reshape(2, 3), normalizer.action.normalize(actions[row]) * weights[:2],
            rtol=1e-6,
        )  # fmt: skip
        np.testing.assert_array_equal(parts[2], mask[row])
        np.testing.assert_array_equal(parts[3], context[row])


def test_what_lies_before_the_episode_is_ignored(rng: np.random.Generator) -> None:
    model = random_model(rng, history=3)
    states, actions, mask = history(rng, model.spec, 2)
    mask[:, 0] = 0.0
    before = condition_vector(model.normalizer, states, actions, mask)
    states[:, 0], actions[:, 0] = rng.normal(size=5), rng.normal(size=3)
    after = condition_vector(model.normalizer, states, actions, mask)
    np.testing.assert_array_equal(before, after)
