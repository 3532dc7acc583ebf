"""The reactive policy of every available backend against torch in float64."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from bounds import DRAWS, displaced, error, limit
from cases import Case, build
from test_backends import variants

from dmpc_fast.backends import registry
from dmpc_fast.spec import PolicySpec

CASES = (
    Case("smallest", {"state": 1, "action": 1, "policy": PolicySpec(1, 1)}, robots=1),
    Case("odd", {"policy": PolicySpec(3, 37)}, robots=5),
    Case("history", {"history": 3, "context": 2, "policy": PolicySpec(2, 19)}, robots=3),
    Case("usual", {"state": 17, "action": 6, "policy": PolicySpec(2, 256)}, robots=1),
)


@pytest.mark.parametrize("variant", variants(), ids="-".join)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_actions(case: Case, variant: tuple[str, str]) -> None:
    name, dtype = variant
    generator = np.random.default_rng()
    model, request = build(case, generator)

    def react(backend: str, dtype: str, **changed: Any) -> np.ndarray:
        other = dataclasses.replace(model, **changed)
        return registry.create(backend, other, dtype=dtype).react(request)

    expected = react("torch", "float64")
    actions = react(name, dtype)
    assert actions.shape == (case.robots, model.spec.action_size)
    # The policy is float32 in every dtype.
    own = "float64" if dtype == "float64" else "float32"
    tensors = [displaced(model, own, generator).tensors for _ in range(DRAWS)]
    moved = [error(react("torch", "float64", tensors=each), expected) for each in tensors]
    assert error(actions, expected) <= limit(own, max(moved))
    assert np.array_equal(actions, react(name, dtype))


@pytest.mark.parametrize("variant", variants(), ids="-".join)
def test_a_model_without_one_says_so(variant: tuple[str, str]) -> None:
    model, request = build(Case("plain"), np.random.default_rng())
    with pytest.raises(ValueError, match="the model has no policy"):
        registry.create(variant[0], model, dtype=variant[1]).react(request)
