"""What the device can do, measured: products in each precision, and reads from L2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks.gpu.worker import Prepared

#: Side of the square product that a peak is measured with, and products per measurement.
PEAK_SIDE, PEAK_PRODUCTS = 8192, 20
#: Bytes that are read, about a `paper` model's weights in bf16, and how often.
L2_BYTES, L2_REPEATS = 16 << 20, 8
#: Programs on each multiprocessor.
L2_PROGRAMS = 2
#: Bytes a second of an H200, taken where they cannot be measured.
L2_ASSUMED = 5.5e12


def prepare(variant: str, question: Mapping[str, Any]) -> Prepared:
    """Facts alone: name, processors, flops (10^12 a second by precision), l2_bytes (10^12 a second) and
    why that is an assumption, where it is one."""
    device = torch.cuda.get_device_properties(0)
    facts: dict[str, Any] = {
        "name": device.name,
        "processors": device.multi_processor_count,
        "memory_gib": round(device.total_memory / 2**30, 1),
        "capability": f"{device.major}.{device.minor}",
        "torch_cuda": torch.version.cuda,
        "flops": {name: value / 1e12 for name, value in products().items()},
    }
    try:
        facts["l2_bytes"] = l2_bytes(device.multi_processor_count) / 1e12
    except Exception as error:
        facts["l2_bytes"] = L2_ASSUMED / 1e12
        facts["l2_assumed"] = f"{type(error).__name__}: {error}".splitlines()[0][:300]
    return Prepared(lambda: None, facts)


def products() -> dict[str, float]:
    """FLOP/s of a large product in each precision."""
    found = {}
    for name, dtype, precision in (
        ("float32", torch.float32, "highest"),
        ("tf32", torch.float32, "high"),
        ("bf16", torch.bfloat16, "highest"),
    ):
        torch.set_float32_matmul_precision(precision)
        a = torch.randn(PEAK_SIDE, PEAK_SIDE, device="cuda", dtype=dtype)
        b = a @ a
        count = PEAK_PRODUCTS if name != "float32" else 3

        def run(a: Any = a, b: Any = b, count: int = count) -> None:
            for _ in range(count):
                torch.mm(a, a, out=b)

        found[name] = 2.0 * PEAK_SIDE**3 * count / device_seconds(run)
    torch.set_float32_matmul_precision("highest")
    return found


def l2_bytes(processors: int) -> float:
    """Bytes a second that all processors read from L2 together. Raises RuntimeError where what was read
    is not what stands there."""
    from benchmarks.gpu import l2

    data = torch.ones(L2_BYTES // 4, device="cuda")
    out = torch.zeros(processors * L2_PROGRAMS, device="cuda")
    seconds = min(device_seconds(lambda: l2.read(data, out, L2_REPEATS)) for _ in range(3))
    expected = float(data.numel() * L2_REPEATS)
    if not bool((out == expected).all()):
        raise RuntimeError(f"reads add up to {float(out.min())}, expected {expected}")
    return len(out) * L2_REPEATS * L2_BYTES / seconds


def device_seconds(run: Callable[[], None]) -> float:
    """Of one run on the device, after one that does not count."""
    run()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return float(begin.elapsed_time(end)) * 1e-3
