"""What an installation without torch must be able to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from random_models import random_model

from dmpc_fast.model_file import save_model

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None\n"


def run(code: str, *arguments: str) -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH + code, *arguments], check=True)


def test_planning_never_imports_torch() -> None:
    run(
        "import dmpc_fast.planning.planner, dmpc_fast.objectives\n"
        "from dmpc_fast.backends import registry\n"
        "assert set(registry.available()) == set(registry.BACKENDS)"
    )


def test_the_engine_plans_without_torch(tmp_path: Path) -> None:
    model = random_model(np.random.default_rng())
    save_model(tmp_path / "model.safetensors", model.spec, model.tensors)
    run(
        "import dmpc_fast\n"
        "planner = dmpc_fast.Planner.load(sys.argv[1], num_samples=3)\n"
        "assert planner.backend == 'cpu'\n"
        "planner.set_objective([dmpc_fast.objectives.ActionCost()])\n"
        "assert planner.act([0.0] * 5).shape == (3,)",
        str(tmp_path / "model.safetensors"),
    )
