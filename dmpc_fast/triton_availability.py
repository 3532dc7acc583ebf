"""Whether this machine can run Triton's kernels, found out without importing torch or Triton."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path


class KernelsUnavailableError(RuntimeError):
    """Fused kernels were asked for in training that this machine, installation or model cannot run;
    the message says why."""


def interpreted() -> bool:
    """Whether Triton interprets kernels on the CPU: for tests, thousands of times slower."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def refusal() -> str | None:
    """Why kernels cannot run here, None where they can."""
    for name in ("triton", "torch"):
        if importlib.util.find_spec(name) is None:
            return f"{name} is not installed; the extra gpu of dmpc-fast brings it"
    if interpreted():
        return None
    if not _torch_has_cuda():
        return "the installed torch is built without CUDA"
    return driver_refusal()


def driver_refusal(library: str = "libcuda.so.1") -> str | None:
    """What the CUDA driver says against running here, None where it has a device."""
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return f"this machine has no NVIDIA driver: {library} cannot be loaded"
    status = driver.cuInit(0)
    if status:
        return f"the NVIDIA driver does not start: cuInit gave error {status}"
    count = ctypes.c_int(0)
    status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status or count.value < 1:
        return (
            f"the NVIDIA driver finds no GPU: cuDeviceGetCount gave {count.value}, error {status}"
        )
    return None


def _torch_has_cuda() -> bool:
    spec = importlib.util.find_spec("torch")
    places = [] if spec is None else spec.submodule_search_locations or []
    return any(list(Path(place, "lib").glob("*torch_cuda*")) for place in places)
