"""The adapter of the CUDA kernels: checks requests, hands over arrays, does no maths of plans."""

from __future__ import annotations

import importlib
import threading
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from dmpc_fast import noise, objectives
from dmpc_fast.backends import cuda_availability
from dmpc_fast.backends.base import (
    BackendUnavailableError,
    CandidateGroup,
    PlanRequest,
    PlanResult,
    check_array,
    check_request,
)
from dmpc_fast.backends.host_policy import HostPolicy
from dmpc_fast.backends.terms import term_rows
from dmpc_fast.model_file import Model
from dmpc_fast.normalizer import condition_vector
from dmpc_fast.spec import OBJECTIVE_OUTPUTS, SamplerSpec

DTYPES = ("float32", "tf32", "bf16")
#: Thread blocks of a cluster, at most, on any device.
MAX_CLUSTER = 8


class CudaBackend:
    """Runs a model on a CUDA GPU of compute capability 8.0 or later, a whole plan as one program.

    Args:
        model: the loaded model.
        dtype: ``float32`` (IEEE products); ``tf32`` or ``bf16`` for the products of the blocks, on
            tensor cores with float32 sums and residuals.
        device: number of the CUDA device. threads: taken for the sake of callers that set it for
            every backend; the host only launches.
        product: the instruction that multiplies in bf16: ``wgmma`` (compute capability 9.0 alone),
            ``mma``, or ``auto`` for the better one that the device has.
        candidates, cluster, sets: how a plan is cut. A cluster of thread blocks takes `sets` sets of
            `candidates` through a plan; the blocks of a set share its work, and blocks that do the same
            for other sets share their weights, which takes ``wgmma``. 0 candidates and cluster leave it
            to a choice by sizes; both or none must be given, and `sets` must divide `cluster`.
        apart: the blocks of a set are no cluster and meet in global memory, all of a plan's at once, as
            they do on devices without clusters; for a forced cut of one set, and not with ``wgmma``.
        stream: address of a CUDA stream (``cudaStream_t``, torch's ``stream.cuda_stream``) that plans
            run on; 0 for one of the backend's own. It must outlive the backend.
        module: the native module; None for the installed one. Tests give the emulation.

    Raises:
        BackendUnavailableError: there is no GPU, no native module, or the dtype is not one of these.
    """

    name = "cuda"

    def __init__(
        self,
        model: Model,
        *,
        dtype: str = "float32",
        device: int = 0,
        threads: int | None = None,
        product: str = "auto",
        candidates: int = 0,
        cluster: int = 0,
        sets: int = 1,
        apart: bool = False,
        stream: int = 0,
        module: ModuleType | None = None,
    ) -> None:
        reason = cuda_availability.refusal() if module is None else None
        if reason is not None:
            raise BackendUnavailableError(f"backend 'cuda' is unavailable: {reason}")
        if dtype not in DTYPES:
            raise BackendUnavailableError(f"backend 'cuda' runs dtype {DTYPES}, not {dtype!r}")
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be 1 or more, got {threads}")
        if min(candidates, cluster) < 0 or (candidates == 0) != (cluster == 0):
            raise ValueError(
                f"candidates and cluster must both be 1 or more, or both 0, got {candidates} and "
                f"{cluster}"
            )
        if cluster > MAX_CLUSTER:
            raise ValueError(f"cluster must be at most {MAX_CLUSTER}, got {cluster}")
        if sets < 1 or (sets > 1 and (cluster == 0 or cluster % sets != 0)):
            raise ValueError(f"sets must divide cluster, got {sets} and {cluster}")
        if apart and (cluster == 0 or sets != 1):
            raise ValueError(
                f"apart needs a forced cut of one set, got cluster {cluster}, sets {sets}"
            )
        self._native = module or importlib.import_module(cuda_availability.MODULE)
        self._spec, self._normalizer = model.spec, model.normalizer
        self._tensors = model.tensors
        self._engine = self._native.Engine(
            self._model(model),
            dtype,
            device,
            product=product,
            candidates=candidates,
            cluster=cluster,
            sets=sets,
            apart=apart,
            stream=stream,
        )
        self._policy = HostPolicy(model)
        self._lock = threading.Lock()
        self._sampler = cache(self._make_sampler)

    def sample(self, request: PlanRequest) -> np.ndarray:
        """Draw proposals: (B, N, F, A), clipped to the action bounds."""
        out = self._run(request, self._native.SAMPLE)
        return self._trajectories(request, out, "actions", self._spec.action_size)

    def predict(self, request: PlanRequest, actions: np.ndarray) -> np.ndarray:
        """States (B, N, F, S) that follow `actions` (B, N, F, A)."""
        out = self._run(request, self._native.PREDICT, actions=actions)
        return self._trajectories(request, out, "states", self._spec.state_size)

    def score(
        self, request: PlanRequest, states: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, violations and tie-breaks, each (B, N), of given trajectories."""
        out = self._run(request, self._native.SCORE, actions=actions, states=states)
        shape = (len(request.states), request.num_samples)
        scores, violations, tie_breaks = (
            out[name].reshape(shape) for name in ("scores", "violations", "tie_breaks")
        )
        return scores, violations, tie_breaks

    def plan(self, request: PlanRequest) -> PlanResult:
        """sample, predict, score and rank as one program; waits once, for the results."""
        native = self._native
        stages = native.SAMPLE | native.PREDICT | native.SCORE | native.RANK
        out = self._run(request, stages)
        shape = (len(request.states), request.num_samples)
        return PlanResult(
            out["best"],
            self._trajectories(request, out, "actions", self._spec.action_size),
            self._trajectories(request, out, "states", self._spec.state_size),
            out["scores"].reshape(shape),
            out["violations"].reshape(shape),
        )

    def react(self, request: PlanRequest) -> np.ndarray:
        """The policy's actions (B, A), clipped to the action bounds: on the host, for a policy has too
        few products to be sent anywhere."""
        return self._policy.react(request)

    def choice(self, request: PlanRequest) -> dict[str, float]:
        """How a plan for `request` is cut over the device, and the times that its rates predict."""
        check_request(self._spec, request)
        with self._lock:
            chosen: dict[str, float] = self._engine.choose(self._request(request, 0, {}))
        return chosen

    def _run(self, request: PlanRequest, stages: int, **given: np.ndarray) -> dict[str, np.ndarray]:
        check_request(self._spec, request)
        if request.deadline_s is not None:
            raise ValueError("backend 'cuda' keeps no deadlines: deadline_s must be None")
        if request.levels is not None:
            raise ValueError("backend 'cuda' plans everything: levels must be None")
        sizes = {"actions": self._spec.action_size, "states": self._spec.state_size}
        for name, array in given.items():
            shape = (len(request.states), request.num_samples, self._spec.horizon, sizes[name])
            check_array(name, array, shape)
        with self._lock:
            out: dict[str, np.ndarray] = self._engine.run(self._request(request, stages, given))
        return out

    def _trajectories(
        self, request: PlanRequest, out: dict[str, np.ndarray], name: str, size: int
    ) -> np.ndarray:
        shape = (len(request.states), request.num_samples, self._spec.horizon, size)
        return out[name].reshape(shape)

    def _request(
        self, request: PlanRequest, stages: int, given: dict[str, np.ndarray]
    ) -> dict[str, Any]:
        nothing = np.zeros(0, np.float32)
        return {
            "stages": stages,
            "robots": len(request.states),
            "condition": condition_vector(
                self._normalizer, request.states, request.actions, request.mask, request.context
            ),
            "seed": request.seed,
            "plan_index": (request.plan_index & 0xFFFFFFFF).astype(np.uint32),
            "robot": request.robots.astype(np.uint32),
            "groups": [self._group(group) for group in request.groups],
            "terms": term_rows(request.objective, self._spec.termination_penalty),
            "learned": objectives.needs_learned(request.objective),
            "actions": np.ascontiguousarray(given.get("actions", nothing)),
            "states": np.ascontiguousarray(given.get("states", nothing)),
        }

    def _group(self, group: CandidateGroup) -> dict[str, Any]:
        own = {
            stage: getattr(group, stage) or self._spec.stages[stage].sampler
            for stage in ("proposal", "dynamics")
        }
        start = np.zeros(0, np.float32) if group.start is None else group.start
        return {
            "count": group.count,
            "start": np.ascontiguousarray(start),
            **{stage: self._sampler(stage, sampler) for stage, sampler in own.items()},
        }

    def _make_sampler(self, stage: str, sampler: SamplerSpec) -> dict[str, Any]:
        """Rows of a sampler and what their angles add to the condition's hidden layer."""
        rows = noise.compile_sampler(sampler)
        angles = sum(
            noise.angle_features(np.array(values))
            @ self._tensors[f"{stage}.0.condition.{name}.weight"].T.astype(np.float64)
            for name, values in (("angle", [r.t for r in rows]), ("target", [r.s for r in rows]))
        )
        return {
            "rows": np.array([(row.a, row.b, row.noise) for row in rows], np.float32),
            "angles": np.ascontiguousarray(angles, np.float32),
            "first_angle": rows[0].t,
        }

    def _model(self, model: Model) -> dict[str, Any]:
        spec, normalizer, environment = model.spec, model.normalizer, model.spec.environment

        def bounds(values: tuple[float | None, ...], absent: float) -> np.ndarray:
            return np.array([absent if value is None else value for value in values], np.float32)

        def number(array: np.ndarray) -> float:
            return float(np.asarray(array).reshape(()))

        members = range(spec.stages["objective"].members)
        stages = [("proposal", 0), ("dynamics", 0), *(("objective", member) for member in members)]
        powers = objectives.discount_powers(spec.discount, spec.horizon)
        return {
            "horizon": spec.horizon,
            "state_size": spec.state_size,
            "action_size": spec.action_size,
            "condition_size": spec.condition_size,
            "networks": [self._network(model, stage, member) for stage, member in stages],
            "action_mean": np.ascontiguousarray(normalizer.action.mean, np.float32),
            "action_scale": np.ascontiguousarray(normalizer.action.scale, np.float32),
            "action_low": bounds(environment.action_low, -np.inf),
            "action_high": bounds(environment.action_high, np.inf),
            "state_mean": np.ascontiguousarray(normalizer.state.mean, np.float32),
            "state_scale": np.ascontiguousarray(normalizer.state.scale, np.float32),
            "reward_mean": number(normalizer.reward.mean),
            "reward_scale": number(normalizer.reward.scale),
            "value_mean": number(normalizer.value.mean),
            "value_scale": number(normalizer.value.scale),
            "discounts": np.asarray(powers, np.float32),
        }

    def _network(self, model: Model, stage: str, member: int) -> dict[str, Any]:
        spec, sizes, prefix = model.spec, model.spec.stages[stage], f"{stage}.{member}."
        first, second = spec.noisy_size(stage), spec.clean_size(stage)
        output = spec.output_size(stage)
        if stage == "objective":
            first, second, output = spec.state_size, spec.action_size, OBJECTIVE_OUTPUTS
        return {
            **{name: getattr(sizes, name) for name in ("layers", "width", "heads", "head_size")},
            "mlp": sizes.mlp,
            "patch": sizes.patch,
            "first_size": first,
            "second_size": second,
            "output_size": output,
            "tensors": {
                name.removeprefix(prefix): np.ascontiguousarray(array, np.float32)
                for name, array in model.tensors.items()
                if name.startswith(prefix)
            },
        }
