"""The policy in NumPy against torch in float64: what the backends of devices answer with."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))

from bounds import DRAWS, displaced, error, limit
from cases import Case, build

from dmpc_fast.backends import registry
from dmpc_fast.backends.host_policy import HostPolicy
from dmpc_fast.spec import PolicySpec


@pytest.mark.parametrize("policy", [PolicySpec(1, 1), PolicySpec(3, 37), PolicySpec(2, 256)])
def test_actions(policy: PolicySpec) -> None:
    generator = np.random.default_rng()
    model, request = build(Case("one", {"history": 3, "context": 2, "policy": policy}), generator)
    expected = registry.create("torch", model, dtype="float64").react(request)
    moved = [
        registry.create("torch", displaced(model, "float32", generator), dtype="float64")
        for _ in range(DRAWS)
    ]
    bound = limit("float32", max(error(each.react(request), expected) for each in moved))
    actions = HostPolicy(model).react(request)
    assert actions.dtype == np.float32
    assert error(actions, expected) <= bound


def test_without_one() -> None:
    model, request = build(Case("plain"), np.random.default_rng())
    with pytest.raises(ValueError, match="the model has no policy"):
        HostPolicy(model).react(request)
