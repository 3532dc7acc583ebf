"""What users would run on a GPU instead: the plan in torch, eager, or compiled and captured as a graph.

The observation comes from host memory and actions, states and scores go back to it, as the backends do;
noise lies on the device, as if its generator cost nothing. Compiled networks are captured together with
everything around them as one CUDA graph, so that long samplers compile three networks and not hundreds
of copies.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.baselines.plan_graph import PlanGraph, PlanParts, StageGraph
from benchmarks.workload import Cell, Work, observations

STAGES = ("proposal", "dynamics")


class Half(nn.Module):
    """A stage with weights and activations in bfloat16 and float32 edges: the best precision for it."""

    def __init__(self, stage: StageGraph) -> None:
        super().__init__()
        self.stage = stage.bfloat16()

    def forward(self, features: Tensor, condition: Tensor, row: Tensor | None) -> Tensor:
        row = None if row is None else row.bfloat16()
        out: Tensor = self.stage(features.bfloat16(), condition.bfloat16(), row)
        return out.float()


def plan_module(work: Work, dtype: str, device: torch.device) -> PlanGraph:
    """The plan of a cell on a device, its networks in `dtype` (``float32``, ``tf32``, ``bf16``)."""
    graph = PlanGraph(PlanParts(work.model, *work.cell.steps)).eval().to(device)
    if dtype == "bf16":
        parts = graph.parts
        for name in STAGES:
            setattr(parts, name, Half(getattr(parts, name)))
        parts.objective = nn.ModuleList(Half(member) for member in parts.objective)
    return graph


def inputs_of(work: Work, cell: Cell, device: torch.device) -> tuple[Tensor, list[Tensor]]:
    """Observations (B, S) in host memory and noise (B N, F, A) and (B N, F, S) on the device. The noise
    of the candidates of `work` is the backends', that of others any."""
    given = []
    for array in work.inputs()[1:]:
        own = torch.from_numpy(array).to(device)
        own = own.unflatten(0, (work.cell.robots, work.cell.num_samples))
        noise = torch.randn(cell.robots, cell.num_samples, *own.shape[2:], device=device)
        noise[: own.shape[0], : own.shape[1]] = own
        given.append(noise.flatten(0, 1))
    return torch.from_numpy(observations(work.model, cell.robots)), given


def prepare(
    variant: str, work: Work, cell: Cell, device: torch.device
) -> Callable[[], list[np.ndarray]]:
    """A rival's plan, ready to be timed. variant: one of `RIVALS`. work: what is compared with the
    reference of the cell's robots and candidates."""
    kind, dtype = variant.split()
    host, noise = inputs_of(work, cell, device)
    inputs = [host.to(device), *noise]
    # Read while eager kernels run and while compiled ones are chosen and captured.
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    graph = plan_module(work, dtype, device)
    if kind == "eager":
        run: Callable[[], tuple[Tensor, ...]] = lambda: graph(*inputs)  # noqa: E731
    else:
        run = captured(compiled(graph), inputs)
    pinned = device.type == "cuda"
    if pinned:
        host = host.pin_memory()
    copies: list[Tensor] = []

    @torch.inference_mode()
    def plan() -> list[np.ndarray]:
        inputs[0].copy_(host, non_blocking=True)
        outputs = run()[:3]
        if not copies:
            copies.extend(torch.empty(x.shape, dtype=x.dtype, pin_memory=pinned) for x in outputs)
        for copy, output in zip(copies, outputs, strict=True):
            copy.copy_(output, non_blocking=True)
        if pinned:
            torch.cuda.current_stream().synchronize()
        shape = (cell.robots, cell.num_samples)
        return [copy.numpy().reshape(*shape, *copy.shape[1:]).copy() for copy in copies]

    return plan


def compiled(graph: PlanGraph) -> PlanGraph:
    """The same plan with its networks compiled, searching for the fastest kernels."""
    parts, options = graph.parts, {"mode": "max-autotune-no-cudagraphs", "dynamic": False}
    for name in STAGES:
        setattr(parts, name, torch.compile(getattr(parts, name), **options))
    parts.objective = nn.ModuleList(torch.compile(member, **options) for member in parts.objective)
    return graph


def captured(graph: PlanGraph, inputs: list[Tensor]) -> Callable[[], tuple[Tensor, ...]]:
    """`graph(*inputs)` as one CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode(), torch.cuda.stream(stream):
        for _ in range(3):
            graph(*inputs)
    torch.cuda.current_stream().wait_stream(stream)
    cuda_graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(cuda_graph):
        outputs = graph(*inputs)

    def run() -> tuple[Tensor, ...]:
        cuda_graph.replay()
        return outputs

    return run
