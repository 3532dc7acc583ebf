"""Why the CUDA backend cannot run, in words, and how its rows of terms agree with the kernels."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from random_models import random_model

from dmpc_fast.backends import cuda_availability, registry
from dmpc_fast.backends.base import BackendUnavailableError
from dmpc_fast.backends.terms import TERM_COLUMNS, TERM_KINDS

CSRC = Path(__file__).parents[2] / "csrc"


def test_a_module_that_is_not_built_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_availability, "MODULE", "dmpc_fast._absent")
    assert "not built" in (cuda_availability.refusal() or "")
    with pytest.raises(BackendUnavailableError, match="'cuda' is unavailable: its module"):
        registry.create("cuda", random_model(np.random.default_rng()))


@pytest.mark.parametrize("reason", ["", "this machine has no NVIDIA driver"])
def test_the_module_says_why(monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    module = ModuleType("fake_cuda")
    module.refusal = lambda: reason  # type: ignore[attr-defined]
    module.__spec__ = importlib.util.spec_from_loader("fake_cuda", loader=None)
    monkeypatch.setitem(sys.modules, "fake_cuda", module)
    monkeypatch.setattr(cuda_availability, "MODULE", "fake_cuda")
    assert cuda_availability.refusal() == (reason or None)


def test_terms_have_the_numbers_that_the_kernels_read() -> None:
    params = (CSRC / "cuda" / "params.hpp").read_text(encoding="utf-8")
    found = re.search(r"enum class TermKind : int \{ (.*?) \}", params)
    assert found is not None
    assert tuple(found[1].split(", ")) == TERM_KINDS
    assert f"kTermColumns = {TERM_COLUMNS};" in params
    scoring = (CSRC.parent / "kernels" / "scoring.py").read_text(encoding="utf-8")
    assert '("' + '", "'.join(TERM_KINDS) + '")' in scoring
