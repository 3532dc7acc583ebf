"""Plans as graphs, on the emulated runtime: what is captured, what is replayed, and where."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))

from cases import Case, build

from dmpc_fast.backends.base import CandidateGroup, PlanRequest, PlanResult
from dmpc_fast.backends.cuda_backend import CudaBackend
from dmpc_fast.model_file import Model
from dmpc_fast.objectives import Alive, GaussianTarget, LearnedReward
from dmpc_fast.spec import SamplerSpec

SIZES = {
    "horizon": 3, "layers": 1, "width": 5, "heads": 1, "head_size": 3, "mlp": 4, "patch": 1,
    "proposal": SamplerSpec.uniform(1), "dynamics": SamplerSpec.uniform(1),
}  # fmt: skip
MAX_PROGRAMS = 8


def tiny(**sizes: object) -> tuple[Model, PlanRequest]:
    return build(Case("tiny", {**SIZES, **sizes}, robots=2, counts=(3,)), np.random.default_rng())


def same(one: PlanResult, other: PlanResult) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("best", "actions", "states", "scores", "violations")
    )


def captures(module: ModuleType) -> int:
    return module.traffic()[0]


def test_one_capture_serves_all_plans_of_a_shape(emulated: ModuleType) -> None:
    model, request = tiny()
    backend = CudaBackend(model, module=emulated)
    before = emulated.traffic()
    first = backend.plan(request)
    other = dataclasses.replace(
        request, seed=request.seed + 1, states=request.states + 1, plan_index=request.plan_index + 1
    )
    second = backend.plan(other)
    third = backend.plan(request)
    after = emulated.traffic()
    assert after[0] - before[0] == 1
    assert after[1] - before[1] == 3
    assert after[3] - before[3] == 3
    assert same(first, third)
    assert not np.array_equal(first.actions, second.actions)
    assert same(second, CudaBackend(model, module=emulated).plan(other))


def test_other_terms_of_as_many_numbers_need_no_new_capture(emulated: ModuleType) -> None:
    model, request = tiny()
    backend = CudaBackend(model, module=emulated)
    requests = [
        dataclasses.replace(request, objective=(Alive(1.0), GaussianTarget(0, target, 0.3, 2.0)))
        for target in (0.5, -0.7)
    ]
    before = captures(emulated)
    plans = [backend.plan(each) for each in requests]
    assert captures(emulated) - before == 1
    assert not np.array_equal(plans[0].scores, plans[1].scores)
    # Fewer terms, or none that the objective's networks are run for, are another program.
    target = GaussianTarget(1, 0.5, 0.3, 2.0)
    for objective in ((LearnedReward(2.0),), (target, target)):
        changed = dataclasses.replace(request, objective=objective)
        assert same(backend.plan(changed), CudaBackend(model, module=emulated).plan(changed))
    assert captures(emulated) - before == 5
    assert same(backend.plan(requests[0]), plans[0])
    assert captures(emulated) - before == 5


def test_a_new_model_is_a_new_backend_without_the_old_one_s_graphs(emulated: ModuleType) -> None:
    model, request = tiny()
    rng = np.random.default_rng()
    adapted = dataclasses.replace(
        model,
        tensors={
            name: tensor * 2 + rng.normal(size=tensor.shape).astype(tensor.dtype)
            if name.startswith("dynamics.")
            else tensor
            for name, tensor in model.tensors.items()
        },
    )
    old = CudaBackend(model, module=emulated)
    first = old.plan(request)
    new = CudaBackend(adapted, module=emulated)
    second = new.plan(request)
    assert np.array_equal(first.actions, second.actions)
    assert not np.array_equal(first.states, second.states)
    assert same(old.plan(request), first)


def test_the_programs_used_last_are_kept(emulated: ModuleType) -> None:
    model, request = tiny()
    backend = CudaBackend(model, module=emulated)
    requests = [
        dataclasses.replace(request, groups=(CandidateGroup(count),))
        for count in range(1, MAX_PROGRAMS + 2)
    ]
    plans = [backend.plan(each) for each in requests]
    before = captures(emulated)
    assert same(backend.plan(requests[1]), plans[1])
    assert captures(emulated) == before
    assert same(backend.plan(requests[0]), plans[0])
    assert captures(emulated) == before + 1
    # The second was used after the third.
    backend.plan(requests[1])
    assert captures(emulated) == before + 1
    backend.plan(requests[2])
    assert captures(emulated) == before + 2


def test_plans_run_on_the_stream_that_is_given(emulated: ModuleType) -> None:
    model, request = tiny()
    own, given = (CudaBackend(model, module=emulated, stream=s) for s in (0, 0x5150))
    first = own.plan(request)
    assert emulated.traffic()[2] not in (0, 0x5150)
    assert same(given.plan(request), first)
    assert emulated.traffic()[2] == 0x5150


def test_a_failure_leaves_the_backend_usable(emulated: ModuleType) -> None:
    model, request = build(
        Case("long", {**SIZES, "horizon": 40}, robots=1, counts=(2,)), np.random.default_rng()
    )
    backend = CudaBackend(model, candidates=10_000, cluster=1, module=emulated)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="does not fit the shared memory"):
            backend.plan(request)
    assert same(
        CudaBackend(model, module=emulated).plan(request),
        CudaBackend(model, module=emulated).plan(request),
    )
