"""Which backends there are, which of them this machine can run, and how one is made.

Adapters are imported when they are asked for: planning with the C++ engine never imports torch.
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any, NamedTuple

from dmpc_fast.backends.base import Backend, BackendUnavailableError
from dmpc_fast.model_file import Model


class _Row(NamedTuple):
    """An adapter class `module`.`name`, the module it needs, and what to do where that is missing."""

    module: str
    name: str
    requires: str
    missing: str


#: Fastest first: the order in which "auto" tries them. None: planned, not in this version.
_ROWS: dict[str, _Row | None] = {
    "cuda": None,
    "triton": None,
    "cpu": _Row(
        "dmpc_fast.backends.cpu_backend",
        "CpuBackend",
        "dmpc_fast._engine",
        "the C++ engine is not built; install the package from its wheel, or build it with "
        "`pip install .`",
    ),
    "torch": _Row(
        "dmpc_fast.backends.torch_backend",
        "TorchBackend",
        "torch",
        "torch is not installed; install it with `pip install dmpc-fast[train]`",
    ),
}
BACKENDS = tuple(_ROWS)


def _unavailable(name: str) -> str | None:
    row = _ROWS[name]
    if row is None:
        return "this version has no such backend"
    if importlib.util.find_spec(row.requires) is None:
        return row.missing
    return None


def available() -> dict[str, str | None]:
    """Every backend, with None if it is available and else the reason why it is not."""
    return {name: _unavailable(name) for name in _ROWS}


def create(name: str, model: Model, *, dtype: str = "float32", **options: Any) -> Backend:
    """The backend `name` for `model`; "auto" is the fastest one that can run `dtype` here.

    options: the backend's own, such as `threads`. Raises ValueError for a name that is not a
    backend's and `BackendUnavailableError` with the reason for one that cannot be used.
    """
    if name == "auto":
        return _create_fastest(model, dtype, options)
    if name not in _ROWS:
        raise ValueError(f"backend must be 'auto' or one of {BACKENDS}, got {name!r}")
    reason, row = _unavailable(name), _ROWS[name]
    if reason is not None or row is None:
        raise BackendUnavailableError(f"backend {name!r} is unavailable: {reason}")
    try:
        module = importlib.import_module(row.module)
    except ImportError as error:
        raise BackendUnavailableError(
            f"backend {name!r} is unavailable: {row.module} cannot be imported: {error}"
        ) from error
    backend: Backend = getattr(module, row.name)(model, dtype=dtype, **options)
    return backend


def _create_fastest(model: Model, dtype: str, options: dict[str, Any]) -> Backend:
    reasons = []
    for name in _ROWS:
        try:
            return create(name, model, dtype=dtype, **options)
        except BackendUnavailableError as error:
            reasons.append(str(error))
    raise BackendUnavailableError(f"no backend can run dtype {dtype!r}: " + "; ".join(reasons))
