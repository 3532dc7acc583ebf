"""What users would run on a GPU instead: the plan in torch, eager, or compiled and captured as a graph.

Both take the observation and the noise of all steps from host memory and give actions, states and
scores back to it, as the backends do. Compiled networks are captured together with everything around
them as one CUDA graph, so that long samplers compile three networks and not hundreds of copies.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.baselines.plan_graph import PlanGraph, PlanParts, StageGraph
from benchmarks.workload import Work

RIVALS = ("eager float32", "eager bf16", "compile tf32", "compile bf16")
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


def prepare(name: str, work: Work, device: torch.device) -> Callable[[], list[np.ndarray]]:
    """A rival's plan, ready to be timed: actions, states, scores. `name`: one of `RIVALS`."""
    kind, dtype = name.split()
    graph = plan_module(work, dtype, device)
    hosts = [torch.from_numpy(array) for array in work.inputs()]
    inputs = [host.to(device) for host in hosts]
    if kind == "eager":
        run: Callable[[], tuple[Tensor, ...]] = lambda: graph(*inputs)  # noqa: E731
    else:
        # Read while kernels are chosen and captured; what runs later is as it was captured.
        torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
        try:
            run = captured(compiled(graph), inputs)
        finally:
            torch.set_float32_matmul_precision("highest")

    @torch.inference_mode()
    def plan() -> list[np.ndarray]:
        for tensor, host in zip(inputs, hosts, strict=True):
            tensor.copy_(host, non_blocking=True)
        return [tensor.float().cpu().numpy() for tensor in run()[:3]]

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
