"""What one run does on the device: its kernels, and how long they keep it busy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

RUNS = 3


def device_work(run: Callable[[], object]) -> dict[str, Any]:
    """launches: kernels of a run, those of replayed graphs included. busy_ms: their times added up.
    device_ms: from the start of the first to the end of the last. All None where the profiler of this
    machine sees none. A run must end with its last kernel done.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    if not torch.cuda.is_available():
        return {"launches": None, "busy_ms": None, "device_ms": None}
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(RUNS):
            run()
        torch.cuda.synchronize()
    cuda = torch.autograd.DeviceType.CUDA
    kernels = [
        (event.time_range.start, event.time_range.end)
        for event in profiler.events() or []
        if event.device_type == cuda and not event.name.startswith(("Memcpy", "Memset"))
    ]
    return summarised(kernels, RUNS)


def summarised(kernels: list[tuple[float, float]], runs: int) -> dict[str, Any]:
    """Of the kernels of so many equal runs, (start, end) in microseconds."""
    if not kernels or len(kernels) % runs:
        return {"launches": None, "busy_ms": None, "device_ms": None}
    ordered, count = sorted(kernels), len(kernels) // runs
    last = ordered[-count:]
    return {
        "launches": count,
        "busy_ms": 1e-3 * sum(end - start for start, end in last),
        "device_ms": 1e-3 * (max(end for _, end in last) - last[0][0]),
    }
