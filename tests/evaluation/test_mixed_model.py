"""A proposal beside another file's stages keeps its own account of how it was made."""

from __future__ import annotations

from pathlib import Path

from dmpc_fast.assets import resolve
from dmpc_fast.evaluation.experiments.mixed_model import with_proposal
from dmpc_fast.model_file import load_model
from dmpc_fast.planning.renoising import can_renoise


def test_a_proposal_can_be_renoised_where_its_own_file_can(tmp_path: Path) -> None:
    student, teacher = resolve("hopper"), resolve("hopper-teacher")
    for base, donor in ((student, teacher), (teacher, student)):
        mixed, own = load_model(with_proposal(base, donor, tmp_path)), load_model(donor)
        assert can_renoise(mixed.spec) == can_renoise(own.spec) == (donor == teacher)
        assert mixed.spec.stages["proposal"] == own.spec.stages["proposal"]
        assert mixed.spec.stages["dynamics"] == load_model(base).spec.stages["dynamics"]
