"""A variant's plan, ready to be timed, and whether it plans what the reference plans."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from benchmarks.baselines import parity
from benchmarks.baselines.plan_graph import PlanGraph, PlanParts
from benchmarks.gpu import rivals
from benchmarks.gpu.cells import RIVALS
from benchmarks.gpu.device_work import device_work
from benchmarks.gpu.worker import Prepared
from benchmarks.workload import Cell, Work, observations
from benchmarks.workload import prepare as prepare_work
from dmpc_fast.backends.registry import create

#: Robots and candidates of each that are compared with the reference: what one candidate becomes does
#: not depend on the others.
COMPARED_ROBOTS, COMPARED_SAMPLES = 3, 32
#: Plans before any that counts.
WARM_UP = 3

#: Actions (B, N, F, A), states (B, N, F, S) and scores (B, N).
Plan = Callable[[], list[np.ndarray]]


def prepare(variant: str, question: Mapping[str, Any]) -> Prepared:
    """question: {"cell": fields of `Cell`, "device": torch's name}. Raises RuntimeError where the plan
    is not the reference's."""
    cell, device = cell_of(question["cell"]), torch.device(question["device"])
    work = compared_work(cell)
    plan = (rivals.prepare if variant in RIVALS else our_plan)(variant, work, cell, device)
    found = parity.compare(
        part(plan(), work.cell), reference(work, device), work, rounding_of(variant)
    )
    if not found.holds:
        raise RuntimeError(f"the plan is not the reference's: {found}")
    for _ in range(WARM_UP):
        plan()
    return Prepared(plan, {"parity": dataclasses.asdict(found), **device_work(plan)})


def cell_of(fields: Mapping[str, Any]) -> Cell:
    """A cell that went through JSON."""
    return Cell(**{**fields, "steps": tuple(fields["steps"])})


def compared_work(cell: Cell) -> Work:
    """The first robots and candidates of a cell."""
    return prepare_work(
        dataclasses.replace(
            cell,
            robots=min(cell.robots, COMPARED_ROBOTS),
            num_samples=min(cell.num_samples, COMPARED_SAMPLES),
        )
    )


def part(outputs: list[np.ndarray], cell: Cell) -> list[np.ndarray]:
    """Of a plan's outputs, those of the robots and candidates of `cell`, flattened."""
    chosen = [array[: cell.robots, : cell.num_samples] for array in outputs]
    return [array.reshape(-1, *array.shape[2:]) for array in chosen]


def reference(work: Work, device: torch.device) -> list[np.ndarray]:
    """Actions, states and scores in float64, on the device: long samplers take a CPU minutes."""
    graph = PlanGraph(PlanParts(work.model, *work.cell.steps)).double().eval().to(device)
    inputs = [torch.from_numpy(array).double().to(device) for array in work.inputs()]
    with torch.inference_mode():
        return [tensor.cpu().numpy() for tensor in graph(*inputs)][:3]


def rounding_of(variant: str) -> str:
    """The dtype whose parity bound a variant must keep: TF32 has bf16's or better."""
    return "float32" if variant.endswith("float32") else "bf16"


def our_plan(variant: str, work: Work, cell: Cell, device: torch.device) -> Plan:
    """A backend's plan, from a request in host memory to results in host memory."""
    chosen, dtype = variant.split()
    backend = create(chosen, work.model, dtype=dtype)
    whole = Work(cell, work.model, observations(work.model, cell.robots), *work.inputs()[1:])
    request = whole.request()

    def plan() -> list[np.ndarray]:
        result = backend.plan(request)
        return [result.actions, result.states, result.scores]

    return plan
