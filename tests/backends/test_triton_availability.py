"""Where the Triton backend cannot run, and that it says why; where nobody wants it, it stays away."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from random_models import random_model

from dmpc_fast import triton_availability as availability
from dmpc_fast.backends import registry
from dmpc_fast.backends.base import BackendUnavailableError
from dmpc_fast.planning.planner import Planner


def test_without_a_gpu_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    reason = availability.refusal()
    if reason is None:
        pytest.skip("this machine has a GPU")
    with pytest.raises(BackendUnavailableError, match=f"'triton' is unavailable: {reason}"):
        Planner.load(random_model(np.random.default_rng()), backend="triton")


def test_a_missing_driver_is_named() -> None:
    assert "libno-such-driver.so cannot be loaded" in str(
        availability.driver_refusal("libno-such-driver.so")
    )


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "triton" else find(name)
    )
    assert "triton is not installed" in str(availability.refusal())
    assert "triton is not installed" in str(registry.available()["triton"])


def test_auto_never_picks_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    planner = Planner.load(random_model(np.random.default_rng()), num_samples=2)
    assert planner.backend in ("cpu", "torch")
