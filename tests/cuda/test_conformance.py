"""The CUDA kernels in the emulation against torch in float64, on the cases of all backends."""

from __future__ import annotations

import dataclasses
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "conformance"))

from bounds import DRAWS, DTYPES, displaced, error, limit
from cases import CASES, STEP_1, Case, build

from dmpc_fast.backends import registry
from dmpc_fast.backends.base import Backend, CandidateGroup, PlanRequest
from dmpc_fast.backends.cuda_backend import CudaBackend
from dmpc_fast.model_file import Model
from dmpc_fast.objectives import best_candidate

#: Candidates of a set, blocks and sets of a cluster, which all fit; (0, 0, 1) is what the choice says.
CUTS = ((0, 0, 1), (3, 2, 1), (3, 4, 1))
#: Where weights come by bulk copies: sets that read them together.
SHARING = ((2, 2, 2), (1, 4, 4), (3, 4, 2), (2, 8, 4))
#: Where they do not: blocks of a set that are no cluster.
APART = ((3, 2, 1), (2, 4, 1), (3, 8, 1))
#: Multiprocessors of the emulated device.
PROCESSORS = 132

#: What operands are rounded to, and the instruction that multiplies them.
PRODUCTS = (("float32", "auto"), ("tf32", "auto"), ("bf16", "mma"), ("bf16", "wgmma"))
#: Cases that are large or whose networks others have, too: one product a time, drawn anew.
ALIKE = {
    "aligned", "many-steps", "jumps", "groups", "extremes", "all-terms", "built-in-terms", "constraints",
    "far-target",
}  # fmt: skip
RUNS = [
    pytest.param(case, *product, id="-".join((case.name, *product)))
    for case in CASES
    for product in (random.sample(PRODUCTS, 1) if case.name in ALIKE else PRODUCTS)
]
#: TF32 is float32 with operands of 11 bits: its ceiling is that of bf16 by three bits less.
BOUNDS = {**DTYPES, "tf32": (2.0**-10, 0.06 / 8)}


class Reference:
    """A case in float64, and what roundings of a dtype do to it."""

    def __init__(self, case: Case) -> None:
        self.model, self.request = build(case, np.random.default_rng())
        backend = registry.create("torch", self.model, dtype="float64")
        self.actions = backend.sample(self.request)
        self.states = backend.predict(self.request, self.actions)
        self.ranking = backend.score(self.request, self.states, self.actions)

    def errors(self, backend: Backend, dtype: type = np.float32) -> list[float]:
        """Of every output, each stage given the reference's own inputs."""
        actions, states = self.actions.astype(dtype), self.states.astype(dtype)
        ranking = backend.score(self.request, states, actions)
        return [
            error(backend.sample(self.request), self.actions),
            error(backend.predict(self.request, actions), self.states),
            *(error(ours, right) for ours, right in zip(ranking, self.ranking, strict=True)),
        ]

    def bound(self, dtype: str) -> float:
        generator = np.random.default_rng()
        # torch has no TF32 on a CPU: what it adds to float32 is the rounding of operands.
        like = "float32" if dtype == "tf32" else dtype
        found = self.errors(registry.create("torch", self.model, dtype=like))
        for _ in range(DRAWS):
            moved = registry.create(
                "torch", displaced(self.model, dtype, generator), dtype="float64"
            )
            found += self.errors(moved, np.float64)
        return limit(dtype, max(found))


def at_once(request: PlanRequest, cut: tuple[int, int, int]) -> bool:
    """Whether the emulated device runs all blocks of a plan together."""
    tiles = sum(-(-group.count // cut[0]) for group in request.groups)
    return len(request.states) * tiles * cut[1] <= PROCESSORS


@pytest.fixture(scope="module")
def reference(request: pytest.FixtureRequest) -> Reference:
    return Reference(request.param)


@pytest.mark.parametrize(("reference", "dtype", "product"), RUNS, indirect=["reference"])
def test_stages_and_plan(
    reference: Reference,
    dtype: str,
    product: str,
    emulated: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bounds.DTYPES", BOUNDS)
    bound, request = reference.bound(dtype), reference.request
    rng = np.random.default_rng()
    apart_cuts = () if product == "wgmma" else tuple(cut for cut in APART if at_once(request, cut))
    cuts = (*apart_cuts, *(SHARING if product == "wgmma" else ()), *CUTS)
    chosen = int(rng.integers(len(cuts)))
    candidates, cluster, sets = cuts[chosen]
    apart = chosen < len(apart_cuts)
    emulated.set_seed(int(rng.integers(1 << 62)))
    backend = CudaBackend(
        reference.model,
        dtype=dtype,
        product=product,
        candidates=candidates,
        cluster=cluster,
        sets=sets,
        apart=apart,
        module=emulated,
    )
    errors = reference.errors(backend)
    assert all(value <= bound for value in errors), (errors, bound, cuts[chosen], apart)
    plan = backend.plan(request)
    # The same numbers, whether stages run together or one by one.
    assert np.array_equal(plan.actions, backend.sample(request))
    _, _, tie_breaks = backend.score(request, plan.states, plan.actions)
    assert plan.best.dtype == np.int64
    if not np.any(tie_breaks):
        assert np.array_equal(plan.best, best_candidate(plan.scores, plan.violations, tie_breaks))


def case_named(name: str) -> tuple[Model, PlanRequest]:
    (case,) = (case for case in CASES if case.name == name)
    return build(case, np.random.default_rng())


@pytest.mark.parametrize(("product", "sets"), [("mma", 1), ("wgmma", 1), ("wgmma", 2)])
def test_the_order_of_threads_changes_no_bit(product: str, sets: int, emulated: ModuleType) -> None:
    model, request = case_named("history")
    backend = CudaBackend(
        model, dtype="bf16", product=product, candidates=2, cluster=4, sets=sets, module=emulated
    )
    plans = []
    for seed in range(3):
        emulated.set_seed(seed)
        plans.append(backend.plan(request))
    for plan in plans[1:]:
        for name in ("best", "actions", "states", "scores", "violations"):
            assert np.array_equal(getattr(plan, name), getattr(plans[0], name)), name


@pytest.mark.parametrize("candidates", [3, 8, 13, 16, 21])
def test_warpgroups_take_any_number_of_rows(candidates: int, emulated: ModuleType) -> None:
    """Passes of 32, 64, 64 + 16, 64 + 32 and 128 rows; rings that are filled more than once."""
    sizes = {"width": 112, "mlp": 200, "head_size": 24, "layers": 1, "proposal": STEP_1}
    case = Case("wide", {**sizes, "heads": 2, "horizon": 6}, robots=1, counts=(candidates,))
    model, request = build(case, np.random.default_rng())
    emulated.set_seed(int(np.random.default_rng().integers(1 << 62)))
    one, other = (
        CudaBackend(model, dtype="bf16", product=product, candidates=21, cluster=1, module=emulated)
        for product in ("mma", "wgmma")
    )
    # The same roundings of operands; only sums are taken in another order.
    np.testing.assert_allclose(one.sample(request), other.sample(request), atol=0.05)


@pytest.mark.parametrize(("cluster", "sets"), [(2, 2), (4, 2), (4, 4), (8, 2), (8, 8)])
def test_sets_that_share_weights_change_no_bit(
    cluster: int, sets: int, emulated: ModuleType
) -> None:
    """Whole sets, one that is not full, and some that are empty, in two groups. Blocks without a head,
    and products that fill their rings more than once."""
    sizes = {"width": 112, "mlp": 400, "layers": 1, "heads": 3}
    case = Case("shared", sizes, robots=2, counts=(2 * sets + 1, 1))
    model, request = build(case, np.random.default_rng())
    plans = []
    for shared in (1, sets):
        emulated.set_seed(int(np.random.default_rng().integers(1 << 62)))
        backend = CudaBackend(
            model,
            dtype="bf16",
            product="wgmma",
            candidates=2,
            cluster=cluster // sets * shared,
            sets=shared,
            module=emulated,
        )
        plans.append(backend.plan(request))
    for name in ("best", "actions", "states", "scores", "violations"):
        assert np.array_equal(getattr(plans[0], name), getattr(plans[1], name)), name


@pytest.mark.parametrize("dtype", ["float32", "tf32", "bf16"])
def test_blocks_that_are_no_cluster_change_no_bit(dtype: str, emulated: ModuleType) -> None:
    case = Case("apart", {"layers": 2, "heads": 3}, robots=2, counts=(5, 2))
    model, request = build(case, np.random.default_rng())
    plans = []
    for apart in (False, True):
        emulated.set_seed(int(np.random.default_rng().integers(1 << 62)))
        backend = CudaBackend(
            model,
            dtype=dtype,
            product="auto" if dtype != "bf16" else "mma",
            candidates=2,
            cluster=4,
            apart=apart,
            module=emulated,
        )
        assert backend.choice(request)["apart"] == apart
        plans.append([backend.plan(request), backend.plan(request)])
    for plan in (*plans[0][1:], *plans[1]):
        for name in ("best", "actions", "states", "scores", "violations"):
            assert np.array_equal(getattr(plans[0][0], name), getattr(plan, name)), name


def test_choice_says_what_it_expects(emulated: ModuleType) -> None:
    model, request = case_named("aligned")
    choice = CudaBackend(model, dtype="bf16", module=emulated).choice(request)
    assert choice["predicted_s"] > 0
    assert 0 < choice["fill"] <= 1
    assert choice["shared_bytes"] <= 227 * 1024


def test_what_is_refused(emulated: ModuleType) -> None:
    model, request = case_named("plain")
    with pytest.raises(ValueError, match="must both be 1 or more"):
        CudaBackend(model, candidates=2, module=emulated)
    with pytest.raises(ValueError, match="cluster must be at most 8, got 16"):
        CudaBackend(model, candidates=2, cluster=16, module=emulated)
    with pytest.raises(ValueError, match="sets must divide cluster, got 3 and 4"):
        CudaBackend(model, candidates=2, cluster=4, sets=3, module=emulated)
    with pytest.raises(ValueError, match="sets share weights by 'wgmma' alone"):
        CudaBackend(model, candidates=2, cluster=4, sets=2, module=emulated)
    with pytest.raises(
        ValueError, match="apart needs a forced cut of one set, got cluster 4, sets 2"
    ):
        CudaBackend(model, candidates=2, cluster=4, sets=2, apart=True, module=emulated)
    with pytest.raises(ValueError, match="'wgmma' are never apart"):
        CudaBackend(model, dtype="bf16", candidates=2, cluster=4, apart=True, module=emulated)
    many = dataclasses.replace(request, groups=(CandidateGroup(600),))
    with pytest.raises(RuntimeError, match="must all run at once"):
        CudaBackend(model, candidates=2, cluster=4, apart=True, module=emulated).plan(many)
    with pytest.raises(ValueError, match="product must be"):
        CudaBackend(model, dtype="bf16", product="fma", module=emulated)
    with pytest.raises(ValueError, match="'wgmma' needs dtype 'bf16'"):
        CudaBackend(model, product="wgmma", module=emulated)
    backend = CudaBackend(model, candidates=10_000, cluster=1, module=emulated)
    with pytest.raises(RuntimeError, match="does not fit the shared memory"):
        backend.plan(request)
