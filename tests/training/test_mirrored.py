"""Batches of mirrored windows, and what refuses a symmetry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from dmpc_fast.data.minari import load_episodes
from dmpc_fast.data.mirror import Mirror
from dmpc_fast.data.windows import Windows
from dmpc_fast.spec import STAGES
from dmpc_fast.training.api import train
from dmpc_fast.training.batches import Batch, StageBatches
from dmpc_fast.training.settings import TrainingSettings

STATES, ACTIONS = ["1", "0", "3", "2"], ["1", "0"]


def of(dataset: str, history: int = 1) -> Windows:
    store = load_episodes([dataset], control_period_s=0.05, progress=False)
    return Windows(store, horizon=4, history=history, discount=0.9, termination_penalty=7.0)


def batch(windows: Windows, mirror: Mirror | None, **options: int) -> Batch:
    batches = StageBatches(
        windows, windows.normalizer(), "objective", seed=3, batch_size=64, bootstrap=True,
        mirror=mirror, **options,
    )  # fmt: skip
    return batches.at(5)


def test_half_of_a_batch_is_mirrored_and_nothing_else_moves(dataset: str) -> None:
    windows = of(dataset, history=2)
    mirror = Mirror.of(STATES, ACTIONS, 4, 2)
    plain, mixed = batch(windows, None), batch(windows, mirror)
    for name in ("angle", "rewards", "value", "uniform", "next_return", "next_valid"):
        np.testing.assert_array_equal(getattr(mixed, name), getattr(plain, name))

    scales = windows.normalizer()
    states, actions = plain.given[..., :4].numpy(), plain.given[..., 4:].numpy()
    valid = plain.valid.numpy()[..., None]
    image = np.concatenate(
        [
            scales.state.normalize(mirror.states(scales.state.denormalize(states))) * valid,
            scales.action.normalize(mirror.actions(scales.action.denormalize(actions))) * valid,
        ],
        axis=-1,
    )
    turned = ~(mixed.given.numpy() == plain.given.numpy()).all((1, 2))
    assert 16 <= turned.sum() <= 48
    np.testing.assert_allclose(mixed.given[turned], image[turned], rtol=1e-5, atol=1e-5)
    # What follows a mirrored window is mirrored, and so is what came before.
    assert mixed.next_given is not None and plain.next_given is not None
    assert mixed.next_valid is not None
    full = mixed.next_valid.numpy().any(1)
    for now, before in (
        (mixed.next_given, plain.next_given), (mixed.condition, plain.condition)
    ):  # fmt: skip
        same = (now.numpy() == before.numpy()).reshape(len(turned), -1).all(1)
        np.testing.assert_array_equal(same[full], ~turned[full])


def test_processes_mirror_the_same_windows(dataset: str) -> None:
    windows = of(dataset)
    mirror = Mirror.of(STATES, ACTIONS, 4, 2)
    whole = batch(windows, mirror)
    parts = [batch(windows, mirror, rank=rank, world=2) for rank in range(2)]
    np.testing.assert_array_equal(whole.given, np.concatenate([part.given for part in parts]))


def test_half_a_symmetry_is_refused() -> None:
    with pytest.raises(ValueError, match="mirror_states and mirror_actions go together"):
        TrainingSettings(steps={}, mirror_states=("0",))


def test_training_refuses_a_symmetry_of_other_sizes(dataset: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mirror_states must name 4 dimensions, got 3"):
        train(
            dataset, preset="tiny", steps=1, horizon=4, control_period_s=0.05, out=tmp_path / "run",
            stage_options={"patch": 4}, compile=False, progress=False,
            mirror_states=["0", "1", "2"], mirror_actions=["0", "1"],
        )  # fmt: skip
    assert not (tmp_path / "run").exists()


def test_the_proposal_learns_from_what_was_recorded_alone(dataset: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "preset": "tiny", "steps": 2, "horizon": 4, "control_period_s": 0.05, "batch_size": 8,
        "stage_options": {"patch": 4}, "compile": False, "progress": False,
    }  # fmt: skip
    plain = load_file(train(dataset, out=tmp_path / "plain", **options))
    options |= {"mirror_states": STATES, "mirror_actions": ACTIONS}
    mirrored = load_file(train(dataset, out=tmp_path / "mirrored", **options))
    every = load_file(train(dataset, out=tmp_path / "all", mirror_stages=STAGES, **options))

    def changed(tensors: dict[str, np.ndarray]) -> set[str]:
        return {k.split(".")[0] for k, t in tensors.items() if not np.array_equal(t, plain[k])}

    assert changed(mirrored) == {"dynamics", "objective"}
    assert changed(every) == set(STAGES)


def test_an_unknown_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="mirror_stages has the unknown stage 'policy'"):
        TrainingSettings(steps={}, mirror_stages=("policy",))
