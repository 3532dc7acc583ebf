"""Diffusion Model Predictive Control: learn from logged data, plan by sampling, drive the robot.

Importing this package costs next to nothing: each public name is imported from its home when it is
first used, and what an installation lacks (torch, MuJoCo) is missed only then.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dmpc_fast import objectives
    from dmpc_fast.backends.base import BackendUnavailableError
    from dmpc_fast.evaluation.evaluate import evaluate
    from dmpc_fast.imitation.distill_policy import distill_policy
    from dmpc_fast.model_file import load_model, save_model
    from dmpc_fast.planning.iterated_search import IteratedSearch
    from dmpc_fast.planning.plan import Plan
    from dmpc_fast.planning.planner import Planner
    from dmpc_fast.planning.warm_start import WarmStart
    from dmpc_fast.spec import ModelFileError
    from dmpc_fast.training.api import finetune, train
    from dmpc_fast.training.distill import distill
    from dmpc_fast.training.loop import Trainer
    from dmpc_fast.triton_availability import KernelsUnavailableError

__version__ = "0.1.0"
__all__ = [
    "BackendUnavailableError",
    "IteratedSearch",
    "KernelsUnavailableError",
    "ModelFileError",
    "Plan",
    "Planner",
    "Trainer",
    "WarmStart",
    "__version__",
    "distill",
    "distill_policy",
    "evaluate",
    "finetune",
    "load_model",
    "objectives",
    "save_model",
    "train",
]

_HOMES = {
    "BackendUnavailableError": "dmpc_fast.backends.base",
    "KernelsUnavailableError": "dmpc_fast.triton_availability",
    "ModelFileError": "dmpc_fast.spec",
    "IteratedSearch": "dmpc_fast.planning.iterated_search",
    "Plan": "dmpc_fast.planning.plan",
    "Planner": "dmpc_fast.planning.planner",
    "Trainer": "dmpc_fast.training.loop",
    "WarmStart": "dmpc_fast.planning.warm_start",
    "distill": "dmpc_fast.training.distill",
    "distill_policy": "dmpc_fast.imitation.distill_policy",
    "evaluate": "dmpc_fast.evaluation.evaluate",
    "finetune": "dmpc_fast.training.api",
    "load_model": "dmpc_fast.model_file",
    "save_model": "dmpc_fast.model_file",
    "train": "dmpc_fast.training.api",
}
#: What the optional packages that a public name may lack come with.
_EXTRAS = {
    "torch": "train",
    "tensorboard": "train",
    "gymnasium": "sim",
    "minari": "sim",
    "mujoco": "sim",
    "tqdm": "sim",
}


def __getattr__(name: str) -> Any:
    if name == "objectives":
        return importlib.import_module("dmpc_fast.objectives")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name not in _EXTRAS:
            raise
        raise ModuleNotFoundError(
            f"{__name__}.{name} needs {error.name}, which is not installed: "
            f"pip install 'dmpc-fast[{_EXTRAS[error.name]}]'",
            name=error.name,
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
