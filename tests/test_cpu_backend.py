"""The C++ engine against the float64 reference: every instruction set, odd sizes, every feature."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conformance.bounds import displaced
from random_models import random_model

from dmpc_fast import _engine as native
from dmpc_fast import objectives
from dmpc_fast.backends.base import BackendUnavailableError, CandidateGroup, PlanRequest, PlanResult
from dmpc_fast.backends.cpu_backend import CpuBackend
from dmpc_fast.backends.torch_backend import TorchBackend
from dmpc_fast.model_file import Model, save_model
from dmpc_fast.planning.iterated_search import IteratedSearch
from dmpc_fast.planning.planner import Planner
from dmpc_fast.spec import SamplerSpec

SETS = [name for name in native.instruction_sets() if name != "auto"]
#: What is left to a backend besides twice the error of torch in the same dtype.
SLACK = {"float32": 32 * 2.0**-24, "bf16": 2.0**-8}
CEILING = {"float32": 1e-5, "bf16": 0.1}

SIZES: list[dict[str, Any]] = [
    {},
    {"horizon": 1, "state": 1, "action": 1},
    {"history": 3, "context": 2, "history_tokens": True},
    {"members": 3, "discount": 0.9},
    {"horizon": 8, "patch": 4, "width": 33, "heads": 2, "head_size": 17, "mlp": 70},
    {"horizon": 37, "width": 50, "heads": 3, "head_size": 40, "mlp": 129, "state": 17, "action": 6},
    {"horizon": 11, "patch": 11, "width": 45, "heads": 3, "head_size": 7, "mlp": 71, "layers": 3},
    {"horizon": 12, "heads": 1, "head_size": 1, "width": 13, "mlp": 1, "layers": 1},
    {
        "horizon": 24,
        "stages": {
            "proposal": {"patch": 3, "width": 40},
            "dynamics": {"patch": 1, "layers": 3, "head_size": 8},
            "objective": {"patch": 8, "mlp": 77, "heads": 2},
        },
    },
]


def random_request(
    rng: np.random.Generator,
    model: Model,
    *,
    robots: int = 2,
    groups: tuple[CandidateGroup, ...] = (CandidateGroup(7),),
    objective: tuple[objectives.Term, ...] | None = None,
) -> PlanRequest:
    spec = model.spec
    past = spec.history - 1
    mask = np.sort(rng.integers(0, 2, (robots, past)), axis=1)
    return PlanRequest(
        states=rng.normal(size=(robots, spec.history, spec.state_size)).astype(np.float32),
        actions=rng.normal(size=(robots, past, spec.action_size)).astype(np.float32),
        mask=mask.astype(np.float32),
        context=rng.normal(size=(robots, spec.context)).astype(np.float32),
        seed=int(rng.integers(1 << 63)) * 2 + 1,
        robots=rng.integers(0, 65536, robots),
        plan_index=rng.integers(0, 1 << 31, robots),
        groups=groups,
        objective=objective,
    )


def relative_error(value: np.ndarray, reference: np.ndarray) -> float:
    difference = np.sqrt(np.mean((value - reference) ** 2))
    return float(difference / max(np.sqrt(np.mean(np.square(reference))), 1e-30))


def moved_plan(model: Model, request: PlanRequest, dtype: str) -> PlanResult:
    """What the reference makes of weights that are off by up to a rounding of the dtype."""
    moved = displaced(model, dtype, np.random.default_rng())
    return TorchBackend(moved, dtype="float64").plan(request)


def assert_matches(model: Model, request: PlanRequest, backend: CpuBackend, dtype: str) -> None:
    """Every stage on the reference's own inputs, and the whole plan, within torch's own error."""
    reference = TorchBackend(model, dtype="float64", threads=1)
    rival = TorchBackend(model, dtype=dtype, threads=1)
    expected, native_plan, torch_plan = (b.plan(request) for b in (reference, backend, rival))
    # Torch's one draw of roundings may be lucky where a model amplifies them (conformance/bounds.py).
    moved = [moved_plan(model, request, dtype) for _ in range(3)]
    for name in ("actions", "states", "scores", "violations"):
        truth = getattr(expected, name)
        roundings = max(relative_error(getattr(p, name), truth) for p in (torch_plan, *moved))
        bound = 2 * roundings + SLACK[dtype]
        error = relative_error(getattr(native_plan, name), truth)
        assert error <= min(bound, CEILING[dtype]), (name, error, bound)

    given = expected.actions.astype(np.float32)
    states = reference.predict(request, given.astype(np.float64))
    assert relative_error(backend.predict(request, given), states) <= CEILING[dtype]
    ours = backend.score(request, states.astype(np.float32), given)
    theirs = reference.score(request, states, given.astype(np.float64))
    for value, truth in zip(ours, theirs, strict=True):
        assert relative_error(value, truth) <= CEILING[dtype]
    np.testing.assert_array_equal(backend.sample(request), native_plan.actions)

    rows = np.arange(len(expected.best))
    loss = theirs[0].max(-1) - theirs[0][rows, native_plan.best]
    if request.objective is None:
        assert np.all(loss <= 4 * CEILING[dtype] * np.sqrt(np.mean(theirs[0] ** 2)))


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_equals_the_reference(sizes: dict[str, Any], instruction_set: str) -> None:
    rng = np.random.default_rng()
    model = random_model(rng, **sizes)
    backend = CpuBackend(model, threads=2, instruction_set=instruction_set)
    assert backend.instruction_set == instruction_set
    assert_matches(model, random_request(rng, model), backend, "float32")


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("sizes", SIZES[3:6], ids=str)
def test_bf16_is_as_near_as_torch(sizes: dict[str, Any], instruction_set: str) -> None:
    rng = np.random.default_rng()
    model = random_model(rng, **sizes)
    backend = CpuBackend(model, dtype="bf16", threads=1, instruction_set=instruction_set)
    assert_matches(model, random_request(rng, model), backend, "bf16")


@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("sizes", SIZES[3:6], ids=str)
def test_int8_is_near_the_reference(sizes: dict[str, Any], instruction_set: str) -> None:
    # Seven bits per operand, relative to the row's and column's largest: a few per cent of the rms.
    rng = np.random.default_rng()
    model = random_model(rng, **sizes)
    request = random_request(rng, model, groups=(CandidateGroup(32),))
    expected = TorchBackend(model, dtype="float64", threads=1).plan(request)
    backend = CpuBackend(model, dtype="int8", threads=1, instruction_set=instruction_set)
    plan = backend.plan(request)
    for name in ("actions", "states", "scores"):
        assert relative_error(getattr(plan, name), getattr(expected, name)) <= 0.1, name
    for given, truth in zip(plan.scores, expected.scores, strict=True):
        assert np.corrcoef(given, truth)[0, 1] >= 0.95


@pytest.mark.parametrize("preset", ["tiny", "small"])
def test_presets(preset: str) -> None:
    rng = np.random.default_rng()
    sizes = {"tiny": (2, 64, 4, 16, 128), "small": (3, 128, 4, 32, 256)}[preset]
    named = dict(zip(("layers", "width", "heads", "head_size", "mlp"), sizes, strict=True))
    model = random_model(rng, state=11, action=3, horizon=32, **named)
    request = random_request(rng, model, robots=1, groups=(CandidateGroup(9),))
    assert_matches(model, request, CpuBackend(model, threads=1), "float32")


@pytest.mark.parametrize("rule", ["ddim", "consistency"])
def test_many_steps_and_groups_with_starts(rule: Any) -> None:
    rng = np.random.default_rng()
    model, request = many_steps(rng, rule)
    while amplification(model, request) > CEILING["float32"] / 8:
        model, request = many_steps(rng, rule)
    assert_matches(model, request, CpuBackend(model, threads=2), "float32")


def amplification(model: Model, request: PlanRequest) -> float:
    """The error that one rounding of the weights makes of the actions."""
    exact = TorchBackend(model, dtype="float64").plan(request).actions
    return relative_error(moved_plan(model, request, "float32").actions, exact)


def many_steps(rng: np.random.Generator, rule: Any) -> tuple[Model, PlanRequest]:
    """Groups of samplers, one of 32 steps. Some random networks drive these apart by a thousandfold:
    no float32 arithmetic, torch's neither, keeps a ceiling then."""
    model = random_model(rng, horizon=5, dynamics=SamplerSpec.uniform(1, rule))
    start = rng.uniform(-0.5, 0.5, size=(3, 4, 5, 3)).astype(np.float32)
    late = SamplerSpec(rule, (0.9, 0.4))
    groups = (
        CandidateGroup(3),
        CandidateGroup(4, proposal=late, start=start),
        CandidateGroup(1, proposal=SamplerSpec.uniform(32, rule), dynamics=late),
        CandidateGroup(2),
    )
    return model, random_request(rng, model, robots=3, groups=groups)


TERMS: list[tuple[objectives.Term, ...]] = [
    (objectives.LearnedReward(0.5), objectives.LearnedValue(2.0)),
    (
        objectives.Alive(1.5),
        objectives.GaussianTarget(1, 0.3, 0.2, 4.0),
        objectives.ActionCost(0.1),
    ),
    (objectives.QuadraticTarget(0, 1.0, 2.0), objectives.Speed(2, -0.5, 3.0)),
    (
        objectives.StateBound(0, low=-0.1),
        objectives.StateBound(1, high=0.2),
        objectives.Speed(2, 1),
    ),
    (objectives.GaussianTarget(1, 0.3, 0.2, -4.0), objectives.GaussianTarget(0, 0.1, 0.5, 1.0)),
]


@pytest.mark.parametrize("terms", TERMS, ids=str)
def test_built_in_objectives(terms: tuple[objectives.Term, ...]) -> None:
    rng = np.random.default_rng()
    model = random_model(rng, members=2)
    request = random_request(rng, model, objective=terms)
    assert_matches(model, request, CpuBackend(model, threads=1), "float32")


def test_underflowing_gaussians_do_not_tie() -> None:
    rng = np.random.default_rng()
    model = random_model(rng)
    terms = (objectives.GaussianTarget(0, 500.0, 1e-3),)
    request = random_request(rng, model, objective=terms)
    plan = CpuBackend(model, threads=1).plan(request)
    assert np.all(plan.scores == 0)
    nearest = plan.states[..., 0].max(-1).argmax(-1)
    np.testing.assert_array_equal(plan.best, nearest)


def test_the_same_call_twice_and_threads_give_the_same_bits() -> None:
    rng = np.random.default_rng()
    model = random_model(rng, horizon=32)
    request = random_request(rng, model, robots=1, groups=(CandidateGroup(19),))
    one, three = CpuBackend(model, threads=1), CpuBackend(model, threads=3)
    first = one.plan(request)
    # Another request in between: nothing of it may stay behind.
    one.plan(random_request(rng, model, robots=3))
    for other in (one.plan(request), three.plan(request)):
        for name in ("best", "actions", "states", "scores", "violations"):
            np.testing.assert_array_equal(getattr(first, name), getattr(other, name))


def test_robots_do_not_see_each_other() -> None:
    rng = np.random.default_rng()
    model = random_model(rng, history=2)
    request = random_request(rng, model, robots=3)
    backend = CpuBackend(model, threads=2)
    together = backend.plan(request)
    fields = ("states", "actions", "mask", "context", "robots", "plan_index")
    for robot in range(3):
        own = {name: getattr(request, name)[robot : robot + 1] for name in fields}
        alone = backend.plan(PlanRequest(**own, seed=request.seed, groups=request.groups))
        np.testing.assert_array_equal(alone.actions[0], together.actions[robot])
        np.testing.assert_array_equal(alone.scores[0], together.scores[robot])


def test_several_threads_may_call_one_backend() -> None:
    rng = np.random.default_rng()
    model = random_model(rng)
    requests = [random_request(rng, model) for _ in range(4)]
    backend = CpuBackend(model, threads=2)
    expected = [backend.plan(request).scores for request in requests]
    wrong: list[int] = []

    def repeat(i: int) -> None:
        for _ in range(20):
            if not np.array_equal(backend.plan(requests[i]).scores, expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=repeat, args=(i,)) for i in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_refusals() -> None:
    rng = np.random.default_rng()
    model = random_model(rng)
    with pytest.raises(BackendUnavailableError, match="float16"):
        CpuBackend(model, dtype="float16")
    with pytest.raises(BackendUnavailableError, match="sse9"):
        CpuBackend(model, instruction_set="sse9")
    with pytest.raises(ValueError, match="threads"):
        CpuBackend(model, threads=0)
    backend = CpuBackend(model, threads=1)
    request = random_request(rng, model)
    actions = backend.sample(request)
    with pytest.raises(ValueError, match="contiguous"):
        backend.predict(request, np.asfortranarray(actions))
    with pytest.raises(ValueError, match="actions"):
        backend.predict(request, actions.astype(np.float64))
    with pytest.raises(ValueError, match="actions"):
        backend.predict(request, actions[:, :-1])


@pytest.mark.parametrize("num_elites", [1, 4, 12])
@pytest.mark.parametrize("search", [None, IteratedSearch(2, 0.7, 2, 5), IteratedSearch(1, 1.5, 9)])
def test_the_embedders_planner_acts_alike(
    num_elites: int, search: IteratedSearch | None, tmp_path: Path
) -> None:
    rng = np.random.default_rng()
    model = random_model(rng, history=3, context=2, horizon=8)
    model = dataclasses.replace(model, spec=dataclasses.replace(model.spec, provenance={}))
    path = tmp_path / "model.safetensors"
    save_model(path, model.spec, model.tensors)
    options: dict[str, Any] = {
        "num_samples": 9,
        "action_chunk": 2,
        "num_elites": num_elites,
        "seed": 7,
        "dtype": "float32",
        "threads": 1,
    }
    rounds: dict[str, Any] = {}
    if search is not None:
        rounds = {f"search_{name}": value for name, value in dataclasses.asdict(search).items()}
    embedded = native.Planner.load(path, **options, **rounds)
    planner = Planner.load(path, backend="cpu", search=search, **options)
    for episode in range(2):
        planner.reset()
        embedded.reset()
        for step in range(7):
            obs, context = (rng.normal(size=n).astype(np.float32) for n in (5, 2))
            ran = rng.normal(size=3).astype(np.float32) if step % 3 == 2 else None
            expected = planner.act(obs, previous_action=ran, context=context)
            np.testing.assert_array_equal(embedded.act(obs, ran, context), expected, str(episode))
