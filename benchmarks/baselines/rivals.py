"""Rivals of the engine on the same weights and the same work, each at its best settings.

A rival is made ready by `prepare(name, work)`, which compiles and quantises outside of any timing, and
runs one whole plan per call. torch.compile compiles the plan as one graph in the mode `max-autotune`;
ONNX Runtime and OpenVINO get it exported; int8 is each runtime's own route (ONNX Runtime: dynamic
quantisation, per channel; OpenVINO: NNCF's transformer preset, calibrated on eight other inputs).
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.baselines.plan_graph import PlanGraph, PlanParts, library_attention
from benchmarks.workload import Work

#: A plan of a rival: actions (N, F, A), states (N, F, S), scores (N,), best (1,).
Plan = Callable[[], list[np.ndarray]]

INPUTS = ("observation", "action_noise", "state_noise")
OUTPUTS = ("actions", "states", "scores", "best")
CALIBRATION_INPUTS = 8
#: dtype that a rival computes in, which decides what it must agree to and its physical limit.
DTYPES = {
    "torch eager float32": "float32",
    "torch eager bf16": "bf16",
    "torch.compile float32": "float32",
    "torch.compile bf16": "bf16",
    "ONNX Runtime float32": "float32",
    "ONNX Runtime int8": "int8",
    "OpenVINO float32": "float32",
    "OpenVINO bf16": "bf16",
    "OpenVINO int8": "int8",
}


def prepare(name: str, work: Work) -> Plan:
    """A rival ready to plan, warmed up.

    Raises ImportError where its library is not installed, KeyError for an unknown name, and whatever
    the library raises where it cannot run this plan.
    """
    library, dtype = name.rsplit(" ", 1)
    graph = PlanGraph(PlanParts(work.model, *work.cell.steps)).eval()
    makers = {
        "torch eager": _torch,
        "torch.compile": _compiled,
        "ONNX Runtime": _onnx_runtime,
        "OpenVINO": _openvino,
    }
    plan = makers[library](graph, work, dtype)
    for _ in range(3):
        plan()
    return plan


def _tensors(work: Work) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(array) for array in work.inputs())


def _torch(graph: Any, work: Work, dtype: str) -> Plan:
    inputs, threads = _tensors(work), work.cell.threads

    def plan() -> list[np.ndarray]:
        # Other rivals of the same run may have another number.
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        low = torch.autocast("cpu", torch.bfloat16) if dtype == "bf16" else nullcontext()
        with torch.inference_mode(), low:
            return [tensor.float().numpy() for tensor in graph(*inputs)]

    return plan


def _compiled(graph: Any, work: Work, dtype: str) -> Plan:
    torch.set_num_threads(work.cell.threads)
    torch._dynamo.reset()
    return _torch(torch.compile(graph, mode="max-autotune", fullgraph=True), work, dtype)


def _exported(graph: PlanGraph, work: Work, path: Path) -> Path:
    with warnings.catch_warnings(), torch.no_grad(), library_attention():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph, _tensors(work), dynamo=True, opset_version=18, verbose=False,
            input_names=INPUTS, output_names=OUTPUTS, external_data=False,
        )  # fmt: skip
    assert program is not None
    program.save(str(path))
    return path


def _onnx_runtime(graph: PlanGraph, work: Work, dtype: str) -> Plan:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = work.cell.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    with tempfile.TemporaryDirectory() as folder:
        path = _exported(graph, work, Path(folder) / "plan.onnx")
        if dtype == "int8":
            from onnxruntime.quantization import QuantType, quantize_dynamic

            quantised = Path(folder) / "int8.onnx"
            quantize_dynamic(path, quantised, per_channel=True, weight_type=QuantType.QInt8)
            path = quantised
        session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    feeds = dict(zip(INPUTS, work.inputs(), strict=True))
    return lambda: session.run(None, feeds)


def _openvino(graph: PlanGraph, work: Work, dtype: str) -> Plan:
    import openvino

    with torch.no_grad(), library_attention():
        model = openvino.convert_model(
            graph, example_input=_tensors(work), input=[array.shape for array in work.inputs()]
        )
    if dtype == "int8":
        import nncf

        inputs = [work.drawn(seed) for seed in range(CALIBRATION_INPUTS)]
        model = nncf.quantize(
            model,
            nncf.Dataset(inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=CALIBRATION_INPUTS,
        )
    settings = {
        "INFERENCE_NUM_THREADS": work.cell.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        # What is not quantised is faster in float32 than in bf16, which converts back and forth.
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == "bf16" else "f32",
    }
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    arrays = list(work.inputs())

    def plan() -> list[np.ndarray]:
        request.infer(arrays)
        return [request.get_output_tensor(i).data for i in range(len(OUTPUTS))]

    return plan
