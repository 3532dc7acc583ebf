"""Tables are made of the rows that have a time, cell by cell and preset by preset."""

from __future__ import annotations

from typing import Any

from benchmarks import latency_table


def row(preset: str, samples: int, variant: str, ms: float | None, **other: Any) -> dict[str, Any]:
    cell = {"preset": preset, "patch": 1, "num_samples": samples, "steps": [1, 1], "threads": 1}
    cell |= {"width": None, "horizon": 32} | other
    name = f"{preset}-p{cell['patch']}-n{samples}-t{cell['threads']}"
    outcome = {"error": "its plan is not the reference's"}
    if ms is not None:
        outcome = {"median_s": ms / 1e3, "peak_fraction": 0.5}
    return {**cell, "name": name, "variant": variant, **outcome}


REPORT = {
    "rows": [
        row("small", 64, "cpu float32", 40.0),
        row("small", 64, "cpu int8", 20.0),
        row("small", 64, "OpenVINO float32", 80.0),
        row("small", 64, "OpenVINO int8", None),
        row("small", 64, "torch eager float32", 60.0),
        row("small", 16, "cpu float32", 10.0),
        row("small", 16, "OpenVINO float32", 45.0),
        row("tiny", 64, "cpu float32", 123.4),
        row("tiny", 64, "cpu int8", 5.0, patch=4),
    ]
}


def test_a_row_per_cell_from_small_to_large() -> None:
    title, line, *rows = latency_table.cells(REPORT)
    assert title == (
        "| cell | ours float32 | ours int8 | OpenVINO / ours, float32 | OpenVINO / ours, int8 "
        "| fastest rival / our fastest |"
    )
    assert line == "|---" * 6 + "|"
    assert rows == [
        "| tiny-p1-n64-t1 | 123 |  |  |  |  |",
        "| tiny-p4-n64-t1 |  | 5 |  |  |  |",
        "| small-p1-n16-t1 | 10 |  | 4.50 |  | 4.50 (OpenVINO float32) |",
        "| small-p1-n64-t1 | 40 | 20 | 2.00 |  | 3.00 (torch eager float32) |",
    ]


def test_ratios_are_geometric_means_over_the_cells_that_have_them() -> None:
    _, _, *rows = latency_table.ratios(REPORT)
    assert rows == [
        "| tiny, 1 thread | 1 |  |  |  |  |",
        "| tiny, patch 4, 1 thread | 1 |  |  |  |  |",
        "| small, 1 thread | 2 | 3.00 (2.00 to 4.50) |  |  | 3.67 (3.00 to 4.50) |",
    ]


def test_a_row_per_variant_says_what_failed() -> None:
    _, _, *rows = latency_table.table(REPORT, samples=64, steps=(1, 1), patch=1)
    assert "| **dmpc_fast** float32 | **40** (50 %) | **123** (50 %) |" in rows
    assert "| OpenVINO int8 | failed |  |" in rows
