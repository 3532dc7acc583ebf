"""Rivals of the engine on the same weights and the same work, each at its best settings.

A rival is made ready by `prepare(name, work)`, which compiles and quantises outside of any timing, and
runs one whole plan per call. torch.compile compiles the plan as one graph in the mode `max-autotune`;
ONNX Runtime and OpenVINO get it exported; int8 is each runtime's own route (ONNX Runtime: dynamic
quantisation, per channel; OpenVINO: NNCF's transformer preset, calibrated on eight other inputs).
Without VNNI their int8 products saturate in 16 bits, and both get what they offer against it: weights
of 7 bits.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.baselines.plan_graph import PlanGraph, PlanParts, library_attention
from benchmarks.workload import Cell, Work
from benchmarks.workload import prepare as prepare_work
from dmpc_fast.cli.doctor import cpu

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
    makers = {
        "torch eager": _torch,
        "torch.compile": _compiled,
        "ONNX Runtime": _onnx_runtime,
        "OpenVINO": _openvino,
    }
    plan = makers[library](work, dtype)
    for _ in range(3):
        plan()
    return plan


def _tensors(work: Work) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(array) for array in work.inputs())


def _torch(work: Work, dtype: str, compiled: Any = None) -> Plan:
    inputs, threads = _tensors(work), work.cell.threads
    graph = _graph(work) if compiled is None else compiled

    def plan() -> list[np.ndarray]:
        # Other rivals of the same run may have another number.
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        low = torch.autocast("cpu", torch.bfloat16) if dtype == "bf16" else nullcontext()
        with torch.inference_mode(), low:
            return [tensor.float().numpy() for tensor in graph(*inputs)]

    return plan


def _compiled(work: Work, dtype: str) -> Plan:
    torch.set_num_threads(work.cell.threads)
    torch._dynamo.reset()
    compiled = torch.compile(_graph(work), mode="max-autotune", fullgraph=True)
    return _torch(work, dtype, compiled)


def _onnx_runtime(work: Work, dtype: str) -> Plan:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = work.cell.threads
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        _onnx(_any_threads(work.cell), dtype), options, providers=["CPUExecutionProvider"]
    )
    feeds = dict(zip(INPUTS, work.inputs(), strict=True))
    return lambda: session.run(None, feeds)


@lru_cache(maxsize=2)
def _onnx(cell: Cell, dtype: str) -> bytes:
    work = prepare_work(cell)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.onnx"
        if dtype == "float32":
            with warnings.catch_warnings(), torch.no_grad(), library_attention():
                warnings.simplefilter("ignore")
                program = torch.onnx.export(
                    _graph(work), _tensors(work), dynamo=True, opset_version=18, verbose=False,
                    input_names=INPUTS, output_names=OUTPUTS, external_data=False,
                )  # fmt: skip
            assert program is not None
            program.save(str(path))
            return path.read_bytes()
        from onnxruntime.quantization import QuantType, quantize_dynamic

        path.write_bytes(_onnx(cell, "float32"))
        quantised = Path(folder) / "int8.onnx"
        quantize_dynamic(
            path, quantised, per_channel=True, weight_type=QuantType.QInt8,
            reduce_range=_products_saturate(),
        )  # fmt: skip
        return quantised.read_bytes()


def _openvino(work: Work, dtype: str) -> Plan:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": work.cell.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        # What is not quantised is faster in float32 than in bf16, which converts back and forth.
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == "bf16" else "f32",
    }
    model = _openvino_model(_any_threads(work.cell), dtype == "int8")
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    arrays = list(work.inputs())

    def plan() -> list[np.ndarray]:
        request.infer(arrays)
        return [request.get_output_tensor(i).data for i in range(len(OUTPUTS))]

    return plan


@lru_cache(maxsize=2)
def _openvino_model(cell: Cell, quantised: bool) -> Any:
    work = prepare_work(cell)
    if not quantised:
        import openvino

        with torch.no_grad(), library_attention():
            return openvino.convert_model(
                _graph(work),
                example_input=_tensors(work),
                input=[array.shape for array in work.inputs()],
            )
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    fix = OverflowFix.ENABLE if _products_saturate() else OverflowFix.DISABLE
    return nncf.quantize(
        _openvino_model(cell, False),
        nncf.Dataset([work.drawn(seed) for seed in range(CALIBRATION_INPUTS)]),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=CALIBRATION_INPUTS,
        advanced_parameters=AdvancedQuantizationParameters(overflow_fix=fix),
    )


def _graph(work: Work) -> PlanGraph:
    return PlanGraph(PlanParts(work.model, *work.cell.steps)).eval()


def _any_threads(cell: Cell) -> Cell:
    """What is exported does not depend on their number, and takes longer than to measure it."""
    return replace(cell, threads=1)


def _products_saturate() -> bool:
    """Whether int8 products are `vpmaddubsw`'s, whose sums of two end at 16 bits."""
    return "avx512_vnni" not in (cpu()["instruction_sets"] or ())
