"""A proposal that is told how good an episode was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dmpc_fast.cli.main import main
from dmpc_fast.data.minari import load_episodes
from dmpc_fast.data.return_ranks import ReturnRanks
from dmpc_fast.data.windows import Windows
from dmpc_fast.model_file import load_model, save_model
from dmpc_fast.planning.planner import Planner
from dmpc_fast.training.api import finetune, train
from dmpc_fast.training.batches import StageBatches
from dmpc_fast.training.distill import distill
from tests.random_models import random_model

FAST = {
    "preset": "tiny", "horizon": 4, "batch_size": 32, "compile": False, "precision": "float32",
    "control_period_s": 0.05, "progress": False, "threads": 1,
}  # fmt: skip


def test_a_batch_holds_the_rank_of_each_window(dataset: str) -> None:
    store = load_episodes([dataset], control_period_s=0.05, progress=False)
    windows = Windows(store, horizon=4, history=2, discount=0.9, termination_penalty=7.0)
    ranks = ReturnRanks(windows).of(windows)[:, None]
    options = {"seed": 3, "batch_size": 64}
    plain = StageBatches(windows, windows.normalizer(), "proposal", **options).at(5)
    told = StageBatches(windows, windows.normalizer(), "proposal", **options, context=ranks).at(5)
    torch.testing.assert_close(told.condition[:, :-1], plain.condition, rtol=0, atol=0)
    torch.testing.assert_close(told.clean, plain.clean, rtol=0, atol=0)
    assert set(told.condition[:, -1].tolist()) <= set(ranks[:, 0].tolist())
    assert len(told.condition[:, -1].unique()) > 5


@pytest.mark.slow
def test_the_proposal_alone_hears_the_rank(dataset: str, tmp_path: Path) -> None:
    path = train(
        dataset,
        out=tmp_path / "run",
        steps=60,
        return_condition=True,
        muon=("proposal", "dynamics", "objective"),
        stage_options={"history_tokens": True},
        **FAST,
    )
    model = load_model(path)
    assert model.spec.context == 1
    for name in ("condition.history.weight", "history.weight"):
        assert np.abs(model.tensors[f"proposal.0.{name}"][:, -1]).max() > 0
        for stage in ("dynamics", "objective"):
            assert (model.tensors[f"{stage}.0.{name}"][:, -1] == 0).all()
    planner = Planner.load(path, backend="torch", num_samples=4, seed=1)
    obs = np.zeros(4, np.float32)
    good, bad = (planner.plan(obs, context=[rank]) for rank in (1.0, 0.0))
    assert np.abs(np.asarray(good.actions) - np.asarray(bad.actions)).max() > 0
    with pytest.raises(ValueError, match="this model needs a context of size 1, got None"):
        planner.act(obs)
    # Fine-tuning and distillation go on with what the teacher was told.
    tuned = load_model(finetune(path, dataset, out=tmp_path / "tuned", steps=3, batch_size=32,
                                compile=False, progress=False, threads=1))  # fmt: skip
    assert (tuned.tensors["dynamics.0.condition.history.weight"][:, -1] == 0).all()
    student = load_model(distill(path, out=tmp_path / "student", steps={"proposal": 3}, batch_size=32,
                                 compile=False, progress=False, threads=1))  # fmt: skip
    assert student.spec.context == 1
    assert student.spec.provenance["training"]["return_condition"] is True
    # And so do they with a teacher whose rank was fixed.
    fixed = tmp_path / "fixed.safetensors"
    assert main(["export", str(path), "--context", "1", "--out", str(fixed)]) == 0
    student = load_model(distill(fixed, out=tmp_path / "fixed-student", steps={"proposal": 3},
                                 batch_size=32, compile=False, progress=False, threads=1))  # fmt: skip
    assert student.spec.context == 0


def test_dynamics_that_hear_a_context_are_not_tuned_on_data_without(
    dataset: str, tmp_path: Path
) -> None:
    model = random_model(
        np.random.default_rng(), state=4, action=2, context=1, control_period_s=0.05
    )
    save_model(tmp_path / "model.safetensors", model.spec, model.tensors)
    with pytest.raises(
        ValueError, match="dynamics reads a context of size 1, which the data do not"
    ):
        finetune(tmp_path / "model.safetensors", dataset, out=tmp_path / "tuned", steps=3,
                 compile=False, progress=False)  # fmt: skip


@pytest.mark.slow
def test_a_told_proposal_joins_stages_that_take_no_context(dataset: str, tmp_path: Path) -> None:
    base = train(dataset, out=tmp_path / "base", steps=3, **FAST)
    path = train(dataset, out=tmp_path / "told", steps=3, return_condition=True, base=base,
                 only=["proposal"], **FAST)  # fmt: skip
    with pytest.raises(
        ValueError, match="return_condition is for a model with a context of size 1"
    ):
        distill(base, out=tmp_path / "student", steps={"proposal": 3}, return_condition=True,
                compile=False, progress=False)  # fmt: skip
    own, told = load_model(base), load_model(path)
    name = "dynamics.0.condition.history.weight"
    np.testing.assert_array_equal(told.tensors[name][:, :-1], own.tensors[name])
    assert (told.tensors[name][:, -1] == 0).all()
    with pytest.raises(ValueError, match="has context 1, not 0"):
        train(dataset, out=tmp_path / "other", steps=3, base=path, only=["objective"], **FAST)
