"""A context that is fixed for good, and stages that do not hear one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dmpc_fast.cli.main import main
from dmpc_fast.model_context import with_fixed_context, with_unread_context
from dmpc_fast.model_file import load_model, save_model
from dmpc_fast.planning.planner import Planner
from tests.random_models import random_model


@pytest.mark.parametrize("history_tokens", [False, True])
def test_a_fixed_context_plans_the_same(tmp_path: Any, history_tokens: bool) -> None:
    rng = np.random.default_rng()
    model = random_model(rng, context=2, history=3, members=2, history_tokens=history_tokens)
    source, out = tmp_path / "source.safetensors", tmp_path / "out.safetensors"
    save_model(source, model.spec, model.tensors)
    assert main(["export", str(source), "--context", "0.25", "-1.5", "--storage", "float32",
                 "--proposal-steps", "2", "--out", str(out)]) == 0  # fmt: skip
    fixed = load_model(out)
    assert fixed.spec.context == 0
    assert fixed.spec.provenance["fixed_context"] == [0.25, -1.5]
    sampler = fixed.spec.stages["proposal"].sampler
    assert sampler is not None and sampler.steps == 2
    # The same samplers on both sides.
    assert main(["export", str(source), "--storage", "float32", "--proposal-steps", "2",
                 "--out", str(tmp_path / "open.safetensors")]) == 0  # fmt: skip
    options: dict[str, Any] = {"backend": "torch", "num_samples": 7, "seed": 5}
    obs = rng.normal(size=model.spec.state_size).astype(np.float32)
    whole = Planner.load(tmp_path / "open.safetensors", **options)
    plan = whole.plan(obs, context=np.array([0.25, -1.5], np.float32))
    same = Planner.load(out, **options).plan(obs)
    # A few roundings of float32 in a chain of two networks.
    for name in ("actions", "states", "scores"):
        np.testing.assert_allclose(getattr(same, name), getattr(plan, name), rtol=2e-4, atol=2e-4)
    other = whole.plan(obs, context=np.array([0.0, 0.0], np.float32))
    assert np.abs(np.asarray(other.scores) - np.asarray(plan.scores)).max() > 1e-2


def test_a_context_of_another_size_is_refused() -> None:
    rng = np.random.default_rng()
    with pytest.raises(ValueError, match="the model takes no context"):
        with_fixed_context(random_model(rng), [1.0])
    model = random_model(rng, context=2)
    for wrong in ([1.0], [1.0, float("nan")]):
        with pytest.raises(ValueError, match="context must be 2 finite numbers, got"):
            with_fixed_context(model, wrong)


def test_what_is_widened_does_not_hear_the_context() -> None:
    model = random_model(np.random.default_rng(), history_tokens=True)
    widened = with_unread_context(model.tensors, 3)
    changed = {
        name for name, tensor in widened.items() if tensor.shape != model.tensors[name].shape
    }
    assert changed == {
        f"{stage}.0.{name}"
        for stage in ("proposal", "dynamics", "objective")
        for name in ("condition.history.weight", "history.weight")
    }
    for name in changed:
        assert (widened[name][:, -3:] == 0).all()
        np.testing.assert_array_equal(widened[name][:, :-3], model.tensors[name])
