"""What is measured, and in which order: cells with a target first, then what teaches most."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.flops import plan_work
from benchmarks.workload import Cell, preset_spec

#: Milliseconds of a plan that are aimed at, one robot, by (preset, N, steps).
TARGETS_MS = {
    ("paper", 64, (1, 1)): 0.35,
    ("paper", 64, (32, 10)): 5.0,
    ("small", 64, (1, 1)): 0.06,
    ("paper", 1024, (1, 1)): 3.7,
}
PRESETS = ("paper", "small", "tiny")
SAMPLES = (64, 256, 1024)
STEPS = ((1, 1), (2, 1), (32, 10))
ROBOTS = (1, 16, 256)
#: "backend dtype", and "how torch runs it, dtype".
OURS = tuple(
    f"{name} {dtype}" for dtype in ("bf16", "tf32", "float32") for name in ("cuda", "triton")
)
RIVALS = tuple(
    f"{name} {dtype}" for dtype in ("bf16", "tf32", "float32") for name in ("compile", "eager")
)
#: How a training step runs (compiled with CUDA graphs, compiled as the trainer does it, or eager), and
#: what computes its blocks: torch or the fused kernels.
TRAINING = tuple(
    f"{how} {kernels}" for kernels in ("torch", "triton") for how in ("graphs", "compile", "eager")
)
#: A cell of more work is left out: a round of all variants would eat the time of all others.
MAX_TFLOP = 100.0


@dataclass(frozen=True)
class Group:
    """Cells of one preset, B and N, which differ in steps alone, and the variants that plan them: what
    has been compiled for the first cell serves the others."""

    cells: tuple[Cell, ...]
    variants: tuple[str, ...]

    @property
    def name(self) -> str:
        cell = self.cells[0]
        return f"{cell.preset} B{cell.robots} N{cell.num_samples} {self.variants[0].split()[-1]}"


def target_ms(cell: Cell) -> float | None:
    """What the cell's plan may take; None where nothing is asked."""
    key = (cell.preset, cell.num_samples, cell.steps)
    return TARGETS_MS.get(key) if cell.robots == 1 else None


def tflop(cell: Cell) -> float:
    """10^12 operations of a plan's matrix products."""
    spec = preset_spec(cell.preset, cell.patch)
    return cell.robots * plan_work(spec, cell.num_samples, *cell.steps)["plan"].flops / 1e12


def schedule(
    presets: Sequence[str],
    robots: Sequence[int],
    samples: Sequence[int],
    steps: Sequence[tuple[int, int]],
) -> list[Group]:
    """All groups in the order in which they are measured, for as long as there is time.

    First groups that hold a target, in every precision; then one robot and then more of them, in bf16;
    then these once more in the other precisions. Cells above `MAX_TFLOP` are in none of them.
    """
    first, rest = [], []
    for count, size, preset in itertools.product(robots, samples, presets):
        cells = [Cell(preset, 1, size, pair, threads=1, robots=count) for pair in steps]
        cells = [cell for cell in cells if tflop(cell) <= MAX_TFLOP]
        cells.sort(key=lambda cell: target_ms(cell) is None)
        if cells:
            (first if target_ms(cells[0]) is not None else rest).append(tuple(cells))
    order = list(TARGETS_MS)
    first.sort(key=lambda cells: min(order.index(_key(cell)) for cell in cells if target_ms(cell)))
    every = (*OURS, *RIVALS)
    coarse = tuple(name for name in every if name.endswith("bf16"))
    fine = tuple(name for name in every if not name.endswith("bf16"))
    return [
        *(Group(cells, every) for cells in first),
        *(Group(cells, coarse) for cells in rest),
        *(Group(cells, fine) for cells in rest),
    ]


def too_large(
    presets: Sequence[str],
    robots: Sequence[int],
    samples: Sequence[int],
    steps: Sequence[tuple[int, int]],
) -> Iterator[Cell]:
    """The cells that `schedule` leaves out."""
    for count, size, preset, pair in itertools.product(robots, samples, presets, steps):
        cell = Cell(preset, 1, size, pair, threads=1, robots=count)
        if tflop(cell) > MAX_TFLOP:
            yield cell


def _key(cell: Cell) -> tuple[str, int, tuple[int, int]]:
    return cell.preset, cell.num_samples, cell.steps
