"""One action of the reactive policy: the engine and what users would run the same network with.

pytest benchmarks/bench_policy.py --benchmark-only

Hopper's sizes, two hidden layers of 256, random weights; from observation to action, one thread. Every
variant's action is compared with the float64 reference first. pytest-benchmark's table has no p99:
`--benchmark-json` keeps every sample, and `extra_info` has it in microseconds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.workload import Cell, prepare
from dmpc_fast import _engine
from dmpc_fast.model_file import Model, save_model
from dmpc_fast.planning.planner import Planner
from dmpc_fast.spec import PolicySpec
from tests.random_models import random_tensors

ROUNDS = 20_000
Act = Callable[[], np.ndarray]


def model() -> Model:
    """The grid's `tiny` model with a policy; plans play no part here."""
    work = prepare(Cell("tiny", 4, 64, (1, 1), threads=1))
    spec = dataclasses.replace(work.model.spec, policy=PolicySpec(2, 256))
    tensors = random_tensors(np.random.default_rng(7), spec)
    return dataclasses.replace(work.model, spec=spec, tensors={**tensors, **work.model.tensors})


def native(model: Model, observation: np.ndarray, folder: Path) -> Act:
    """`dmpc::Planner` behind its binding."""
    save_model(path := folder / "model.safetensors", model.spec, model.tensors)
    planner = _engine.Planner.load(
        path, num_samples=1, action_chunk=1, seed=0, dtype="float32", threads=1, mode="policy"
    )
    return lambda: planner.act(observation)


def python(model: Model, observation: np.ndarray, folder: Path) -> Act:
    """`dmpc_fast.Planner` on the engine."""
    planner = Planner.load(model, backend="cpu", threads=1, mode="policy")
    return lambda: planner.act(observation)


def python_general(model: Model, observation: np.ndarray, folder: Path) -> Act:
    """The same the general way, which several robots and models with a past take."""
    planner, context = Planner.load(model, backend="cpu", threads=1, mode="policy"), np.zeros(0)
    return lambda: planner.act(observation, context=context)


def torch_network(
    model: Model, observation: np.ndarray, *, compiled: bool = False
) -> tuple[Act, Callable[[np.ndarray], np.ndarray]]:
    """The policy's network in torch, from the observation to the action within its bounds."""
    import torch

    from dmpc_fast.models.policy import load_policy

    torch.set_num_threads(1)
    network, scales = load_policy(model.spec, model.tensors), model.normalizer
    assert network is not None
    mean, scale = torch.from_numpy(scales.state.mean), torch.from_numpy(scales.state.scale)
    out_mean, out_scale = (
        torch.from_numpy(scales.action.mean),
        torch.from_numpy(scales.action.scale),
    )

    def forward(state: torch.Tensor) -> torch.Tensor:
        action: torch.Tensor = network((state - mean) / scale) * out_scale + out_mean
        return action.clamp(-1.0, 1.0)

    run = torch.compile(forward, mode="max-autotune") if compiled else forward

    def act(state: np.ndarray = observation) -> np.ndarray:
        with torch.inference_mode():
            result: np.ndarray = run(torch.from_numpy(state)[None]).numpy()[0]
            return result

    return act, act


def eager(model: Model, observation: np.ndarray, folder: Path) -> Act:
    """torch, eager."""
    return torch_network(model, observation)[0]


def compiled(model: Model, observation: np.ndarray, folder: Path) -> Act:
    """torch.compile."""
    return torch_network(model, observation, compiled=True)[0]


def onnx_runtime(model: Model, observation: np.ndarray, folder: Path) -> Act:
    """ONNX Runtime, one thread; normalisation and bounds in NumPy around the network."""
    import torch

    from dmpc_fast.models.policy import load_policy

    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network, scales = load_policy(model.spec, model.tensors), model.normalizer
    assert network is not None
    example = torch.zeros(1, model.spec.condition_size)
    program = torch.onnx.export(network, (example,), dynamo=True, verbose=False)
    assert program is not None
    program.save(path := str(folder / "policy.onnx"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def act() -> np.ndarray:
        (normalised,) = session.run(None, {name: scales.state.normalize(observation)[None]})
        action: np.ndarray = scales.action.denormalize(normalised[0]).clip(-1.0, 1.0)
        return action

    return act


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "variant",
    [native, python, python_general, eager, compiled, onnx_runtime],
    ids=lambda f: f.__name__,
)
def test_policy(benchmark: BenchmarkFixture, variant: Callable[..., Act], tmp_path: Path) -> None:
    """Observation to action, with the history of one state."""
    given = model()
    bounds = [bound for side in ("action_low", "action_high")
              for bound in getattr(given.spec.environment, side)]  # fmt: skip
    assert set(bounds) <= {-1.0, 1.0}
    observation = np.random.default_rng(3).normal(size=given.spec.state_size).astype(np.float32)
    act = variant(given, observation, tmp_path)
    reference = Planner.load(given, backend="torch", dtype="float64", mode="policy")
    np.testing.assert_allclose(act(), reference.act(observation), rtol=1e-4, atol=1e-5)
    benchmark.pedantic(act, warmup_rounds=200, rounds=ROUNDS)
    samples = np.array(benchmark.stats.stats.data)
    benchmark.extra_info["p99_us"] = round(1e6 * float(np.quantile(samples, 0.99)), 2)
