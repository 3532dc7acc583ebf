"""Which backends there are, which of them this machine can run, and how one is made.

Adapters are imported when they are asked for: planning with the C++ engine never imports torch.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from typing import Any, NamedTuple

from dmpc_fast import triton_availability
from dmpc_fast.backends import cuda_availability
from dmpc_fast.backends.base import Backend, BackendUnavailableError
from dmpc_fast.model_file import Model


class _Row(NamedTuple):
    """An adapter class `module`.`name`.

    refusal: why this machine or installation cannot run it, None where it can. withheld: whether
    "auto" passes it by although it can be run.
    """

    module: str
    name: str
    refusal: Callable[[], str | None]
    withheld: Callable[[], bool] = lambda: False


def _needs(module: str, missing: str) -> Callable[[], str | None]:
    """A refusal that says `missing` where there is no `module`."""
    return lambda: missing if importlib.util.find_spec(module) is None else None


#: Fastest first: the order in which "auto" tries them.
_ROWS: dict[str, _Row] = {
    "cuda": _Row("dmpc_fast.backends.cuda_backend", "CudaBackend", cuda_availability.refusal),
    "triton": _Row(
        "dmpc_fast.backends.triton.backend",
        "TritonBackend",
        triton_availability.refusal,
        withheld=triton_availability.interpreted,
    ),
    "cpu": _Row(
        "dmpc_fast.backends.cpu_backend",
        "CpuBackend",
        _needs(
            "dmpc_fast._engine",
            "the C++ engine is not built; install the package from its wheel, or build it with "
            "`pip install .`",
        ),
    ),
    "torch": _Row(
        "dmpc_fast.backends.torch_backend",
        "TorchBackend",
        _needs("torch", "torch is not installed; install it with `pip install dmpc-fast[train]`"),
    ),
}
BACKENDS = tuple(_ROWS)


def _unavailable(name: str) -> str | None:
    return _ROWS[name].refusal()


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
    if reason is not None:
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
    for name, row in _ROWS.items():
        if row.withheld():
            continue
        try:
            return create(name, model, dtype=dtype, **options)
        except BackendUnavailableError as error:
            reasons.append(str(error))
    raise BackendUnavailableError(f"no backend can run dtype {dtype!r}: " + "; ".join(reasons))
