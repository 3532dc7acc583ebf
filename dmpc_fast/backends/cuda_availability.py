"""Whether this machine can run the CUDA backend, found out without running anything on a device."""

from __future__ import annotations

import importlib
import importlib.util

MODULE = "dmpc_fast._cuda"


def refusal() -> str | None:
    """Why the backend cannot run here, None where it can."""
    if importlib.util.find_spec(MODULE) is None:
        return "its module is not built; building the package where nvcc is installed builds it"
    try:
        module = importlib.import_module(MODULE)
    except ImportError as error:
        return f"its module cannot be imported: {error}"
    reason: str = module.refusal()
    return reason or None
