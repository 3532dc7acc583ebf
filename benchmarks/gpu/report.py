"""The report: one JSON file that is complete after every step, and lines for a person to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.gpu import floors
from benchmarks.gpu.cells import target_ms
from benchmarks.workload import Cell, preset_spec

NAME = "gpu.json"


class Report:
    """What is known so far, as `data`, and its file in `folder`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / NAME
        self.data: dict[str, Any] = {
            "phases": {}, "rows": [], "training": [], "left_out": [], "seconds": None,
        }  # fmt: skip

    def write(self) -> None:
        """Replace the file, at once or not at all."""
        partial = self._path.with_suffix(".partial")
        text = json.dumps(self.data, indent=1, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(self._path)


def plan_row(
    cell: Cell, variant: str, measured: Mapping[str, Any], device: floors.Device | None
) -> dict[str, Any]:
    """A variant's row of a cell: what was measured beside floors and target."""
    row: dict[str, Any] = {
        "cell": cell.name, "preset": cell.preset, "robots": cell.robots,
        "num_samples": cell.num_samples, "steps": list(cell.steps), "variant": variant, **measured,
    }  # fmt: skip
    if "median_ms" not in row:
        return row
    aim, median_ms = target_ms(cell), row["median_ms"]
    if aim is not None:
        row |= {"target_ms": aim, "reached": median_ms <= aim}
    if device is not None:
        precision = variant.split()[1]
        found = floors.floors(preset_spec(cell.preset, cell.patch), cell, precision, device)
        row |= {
            "tensor_floor_ms": found.tensor_ms, "fill_floor_ms": found.fill_ms,
            "l2_floor_ms": found.l2_ms, "floor_cluster": found.cluster,
            "floor_candidates": found.candidates, "floor_ms": found.floor_ms,
            "peak_fraction": found.tensor_ms / median_ms,
            "floor_fraction": found.floor_ms / median_ms,
            "tflops": device.flops[precision] * found.tensor_ms / median_ms,
        }  # fmt: skip
    return row


def plan_line(row: Mapping[str, Any]) -> str:
    start = f"{row['cell']:26}{row['variant']:17}"
    if "median_ms" not in row:
        return start + row.get("error", "not measured")
    tail = "".join(
        f"{'-' if row[name] is None else format(row[name], '.3f'):>10}"
        for name in ("median_ms", "p99_ms", "p999_ms")
    )
    shares = ""
    if "floor_fraction" in row:
        shares = (
            f"{row['tflops']:7.1f} TFLOP/s{100 * row['peak_fraction']:5.0f} % of peak"
            f"{100 * row['floor_fraction']:5.0f} % of floor"
        )
    launches = "" if row.get("launches") is None else f"{row['launches']:6d} launches"
    aim = f"   target {row['target_ms']} ms" if "target_ms" in row else ""
    failed = f"   then: {row['error']}" if "error" in row else ""
    return start + tail + shares + launches + aim + failed


def training_row(
    preset: str, batch_size: int, variant: str, measured: Mapping[str, Any]
) -> dict[str, Any]:
    """A variant's row of a training cell."""
    row = {"preset": preset, "batch_size": batch_size, "variant": variant, **measured}
    if "median_ms" in row:
        step_ms = row["median_ms"] / row["steps_per_run"]
        row |= {"step_ms": step_ms, "samples_per_s": 1e3 * batch_size / step_ms}
    return row


def training_line(row: Mapping[str, Any]) -> str:
    start = f"train {row['preset']:6} batch {row['batch_size']:<6}{row['variant']:17}"
    if "samples_per_s" not in row:
        return start + row.get("error", "not measured")
    return f"{start}{row['step_ms']:9.3f} ms a step{row['samples_per_s']:12.0f} samples/s"


def check_line(row: Mapping[str, Any]) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in row.get("outcomes", {}).items())
    return f"{row['name']:22}{row['status']} {counts}".rstrip()
