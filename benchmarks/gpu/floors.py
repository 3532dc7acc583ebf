"""How fast a plan could be at best: by products, by how it fills the chip, by reads of weights from L2.

A cut gives `candidates` of one robot to a cluster of `cluster` blocks, one block a multiprocessor. Each
cluster reads all weights once an evaluation, and clusters that do not fit at once come in waves. The
floor of a plan is that of the best cut: no kernel of this shape can be faster, whatever its code.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from benchmarks.flops import plan_work
from benchmarks.workload import Cell
from dmpc_fast.spec import ModelSpec

#: Bytes of a weight, by precision, and of the operand that products read.
BYTES = {"bf16": 2, "tf32": 4, "float32": 4}
CLUSTERS = (1, 2, 4, 8, 16)
#: Bytes of shared memory of a multiprocessor: the residual stream and an operand must fit a cluster's.
SHARED_BYTES = 227 << 10


@dataclass(frozen=True)
class Device:
    """processors: multiprocessors. flops: 10^12 a second of products by precision, measured.
    l2_bytes: 10^12 a second. l2_assumed: whether that is an assumption."""

    processors: int
    flops: dict[str, float]
    l2_bytes: float
    l2_assumed: bool = False


@dataclass(frozen=True)
class Floors:
    """Milliseconds: tensor, of products on all processors; fill, on those that the cut uses, in waves;
    l2, of reading weights. cluster, candidates: the cut, which makes the larger of fill and l2 least.
    """

    tensor_ms: float
    fill_ms: float
    l2_ms: float
    cluster: int
    candidates: int

    @property
    def floor_ms(self) -> float:
        return max(self.tensor_ms, self.fill_ms, self.l2_ms)


def floors(spec: ModelSpec, cell: Cell, precision: str, device: Device) -> Floors:
    """Of a cell's plan."""
    work = plan_work(spec, cell.num_samples, *cell.steps, bytes_per_weight=BYTES[precision])
    tensor_ms = 1e3 * cell.robots * work["plan"].flops / (device.flops[precision] * 1e12)
    evaluations = {"proposal": cell.steps[0], "dynamics": cell.steps[1], "objective": 1}
    read = sum(evaluations[stage] * work[stage].weight_bytes for stage in evaluations)
    stages = spec.stages.values()
    row_bytes = max(
        spec.horizon // stage.patch * stage.width * (4 + BYTES[precision]) for stage in stages
    )
    found = []
    for cluster, doubled in itertools.product(CLUSTERS, range(8)):
        candidates = min(1 << doubled, cell.num_samples)
        if cluster > device.processors or candidates * row_bytes > cluster * SHARED_BYTES:
            continue
        at_once = device.processors // cluster
        clusters = cell.robots * -(-cell.num_samples // candidates)
        waves = -(-clusters // at_once)
        # One cluster's share of the work, at its share of the chip's peak.
        share = candidates / (cell.robots * cell.num_samples)
        fill_ms = waves * tensor_ms * share * device.processors / cluster
        l2_ms = 1e3 * clusters * read / (device.l2_bytes * 1e12)
        found.append(Floors(tensor_ms, fill_ms, l2_ms, cluster, candidates))
    if not found:
        raise ValueError(f"no cut of {cell.name} fits: {row_bytes} bytes of a candidate's rows")
    return min(found, key=lambda floor: (floor.floor_ms, floor.fill_ms + floor.l2_ms))
