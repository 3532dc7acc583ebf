"""The adapter: checks requests, moves arrays, keeps a program for every shape of plan."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmpc_fast import objectives
from dmpc_fast.backends.base import (
    BackendUnavailableError,
    PlanRequest,
    PlanResult,
    check_array,
    check_request,
)
from dmpc_fast.backends.host_policy import HostPolicy
from dmpc_fast.backends.terms import term_rows
from dmpc_fast.backends.triton.network import Network
from dmpc_fast.backends.triton.program import GroupShape, Parts, PlanShape, Program, device_parts
from dmpc_fast.kernels import tiles
from dmpc_fast.kernels.precision import PRECISIONS
from dmpc_fast.kernels.scoring import Statistics
from dmpc_fast.kernels.update import Edge
from dmpc_fast.model_file import Model
from dmpc_fast.normalizer import Affine, condition_vector
from dmpc_fast.spec import STAGES
from dmpc_fast.triton_availability import interpreted, refusal

#: Programs that are kept, each with its buffers and graph; the one not used for longest goes first.
MAX_PROGRAMS = 8


class TritonBackend:
    """Runs a model on a CUDA GPU, or in Triton's interpreter where TRITON_INTERPRET=1.

    Args:
        model: the loaded model.
        dtype: ``float32`` (IEEE products); ``tf32``; ``bf16`` for the products of the blocks, with
            float32 sums and residuals.
        device: a CUDA device of torch; None for the current one. The interpreter runs on the CPU.
        threads: taken for the sake of callers that set it for every backend; the host only launches.
        processors: multiprocessors among which work is cut; None for those that the device has.

    Raises:
        BackendUnavailableError: there is no GPU or no Triton, or the model's sizes or dtype do not
            fit the kernels.
    """

    name = "triton"

    def __init__(
        self,
        model: Model,
        *,
        dtype: str = "float32",
        device: str | torch.device | None = None,
        threads: int | None = None,
        processors: int | None = None,
    ) -> None:
        reason = refusal()
        if reason is not None:
            raise BackendUnavailableError(f"backend 'triton' is unavailable: {reason}")
        if dtype not in PRECISIONS:
            raise BackendUnavailableError(
                f"backend 'triton' runs dtype {tuple(PRECISIONS)}, not {dtype!r}"
            )
        _check_sizes(model)
        if threads is not None and threads < 1:
            raise ValueError(f"threads must be 1 or more, got {threads}")
        if processors is not None and processors < 1:
            raise ValueError(f"processors must be 1 or more, got {processors}")
        self._device = _device(device)
        self._spec, self._normalizer = model.spec, model.normalizer
        self._policy = HostPolicy(model)
        self._parts = self._load(model, dtype, processors or _processors(self._device))
        self._programs: OrderedDict[PlanShape, Program] = OrderedDict()
        self._lock = threading.Lock()
        # torch leaves the current device alone for a negative number.
        self._device_index = -1 if self._device.index is None else self._device.index

    def sample(self, request: PlanRequest) -> np.ndarray:
        """Draw proposals: (B, N, F, A), clipped to the action bounds."""
        with self._session():
            program = self._prepare(request)
            program.sample()
            return self._read(program.actions)[0]

    def predict(self, request: PlanRequest, actions: np.ndarray) -> np.ndarray:
        """States (B, N, F, S) that follow `actions` (B, N, F, A)."""
        with self._session():
            program = self._prepare(request, actions=actions)
            program.normalise_actions()
            program.predict()
            return self._read(program.states)[0]

    def score(
        self, request: PlanRequest, states: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, violations and tie-breaks, each (B, N), of given trajectories."""
        with self._session():
            program = self._prepare(request, actions=actions, states=states)
            program.normalise_actions()
            program.normalise_states()
            program.score()
            scores, violations, tie_breaks = self._read(
                program.scores, program.violations, program.tie_breaks
            )
            return scores, violations, tie_breaks

    def plan(self, request: PlanRequest) -> PlanResult:
        """sample, predict, score and rank as one, on the current stream; waits for it once, when
        everything has been sent on its way."""
        with self._session():
            program = self._prepare(request)
            program.plan()
            best, actions, states, scores, violations = self._read(
                program.best, program.actions, program.states, program.scores, program.violations
            )
            return PlanResult(best, actions, states, scores, violations)

    def react(self, request: PlanRequest) -> np.ndarray:
        """The policy's actions (B, A), clipped to the action bounds: on the host, for a policy has too
        few products to be sent anywhere."""
        return self._policy.react(request)

    @contextmanager
    def _session(self) -> Iterator[None]:
        """One call at a time, on this backend's device."""
        with self._lock, torch.inference_mode(), torch.cuda.device(self._device_index):
            yield

    def _prepare(self, request: PlanRequest, **trajectories: np.ndarray) -> Program:
        """The program of a request, its inputs on their way."""
        self._check(request, trajectories)
        terms = term_rows(request.objective, self._spec.termination_penalty)
        shape = self._shape(request, len(terms))
        program = self._programs.pop(shape, None) or Program(self._parts, shape)
        self._programs[shape] = program
        if len(self._programs) > MAX_PROGRAMS:
            self._programs.popitem(last=False)
        condition = condition_vector(
            self._normalizer, request.states, request.actions, request.mask, request.context
        )
        words = np.stack([request.plan_index & 0xFFFFFFFF, request.robots << 16], axis=-1)
        self._write(program.condition, condition)
        self._write(program.seed, np.array([request.seed], np.uint64).view(np.int64))
        self._write(program.words, words.astype(np.uint32).view(np.int32))
        self._write(program.terms, terms)
        for buffer, group in zip(program.starts, request.groups, strict=True):
            if buffer is not None and group.start is not None:
                self._write(buffer, group.start)
        for name, array in trajectories.items():
            self._write(getattr(program, name), array)
        return program

    def _shape(self, request: PlanRequest, terms: int) -> PlanShape:
        samplers = {stage: self._spec.stages[stage].sampler for stage in ("proposal", "dynamics")}
        groups = []
        for group in request.groups:
            own = {stage: getattr(group, stage) or default for stage, default in samplers.items()}
            assert own["proposal"] is not None and own["dynamics"] is not None
            groups.append(
                GroupShape(group.count, own["proposal"], own["dynamics"], group.start is not None)
            )
        learned = objectives.needs_learned(request.objective)
        return PlanShape(len(request.states), tuple(groups), terms, learned)

    def _check(self, request: PlanRequest, trajectories: dict[str, np.ndarray]) -> None:
        check_request(self._spec, request)
        if request.deadline_s is not None:
            raise ValueError("backend 'triton' keeps no deadlines: deadline_s must be None")
        if request.levels is not None:
            raise ValueError("backend 'triton' plans everything: levels must be None")
        sizes = {"actions": self._spec.action_size, "states": self._spec.state_size}
        for name, array in trajectories.items():
            shape = (len(request.states), request.num_samples, self._spec.horizon, sizes[name])
            check_array(name, array, shape)

    def _write(self, buffer: Tensor, array: np.ndarray) -> None:
        host = torch.tensor(array, pin_memory=self._device.type == "cuda")
        buffer.copy_(host, non_blocking=True)

    def _read(self, *buffers: Tensor) -> list[np.ndarray]:
        """Copies that the caller owns. All are on their way before any is waited for."""
        pinned = self._device.type == "cuda"
        copies = [torch.empty(b.shape, dtype=b.dtype, pin_memory=pinned) for b in buffers]
        for copy, buffer in zip(copies, buffers, strict=True):
            copy.copy_(buffer, non_blocking=True)
        if pinned:
            torch.cuda.current_stream(self._device).synchronize()
            # Pages that are locked are the driver's to give: callers get ordinary ones.
            return [copy.numpy().copy() for copy in copies]
        return [copy.numpy() for copy in copies]

    def _load(self, model: Model, dtype: str, processors: int) -> Parts:
        spec, normalizer = model.spec, model.normalizer
        environment = spec.environment

        def network(stage: str, member: int = 0) -> Network:
            prefix = f"{stage}.{member}."
            own = {
                name.removeprefix(prefix): array
                for name, array in model.tensors.items()
                if name.startswith(prefix)
            }
            return Network(spec, stage, own, precision=PRECISIONS[dtype], device=self._device)

        members = range(spec.stages["objective"].members)
        networks = (
            network("proposal"),
            network("dynamics"),
            tuple(network("objective", member) for member in members),
        )
        free = (None,) * spec.state_size
        edges = {
            "proposal": self._edge(
                normalizer.action, environment.action_low, environment.action_high
            ),
            "dynamics": self._edge(normalizer.state, free, free),
        }
        reward, value = normalizer.reward, normalizer.value
        statistics = Statistics(
            *(self._tensor(x) for x in (reward.mean, reward.scale, value.mean, value.scale))
        )
        return device_parts(spec, networks, edges, statistics, self._device, processors)

    def _edge(self, affine: Affine, low: Any, high: Any) -> Edge:
        bounds = [
            np.array([absent if bound is None else bound for bound in side], np.float32)
            for side, absent in ((low, -np.inf), (high, np.inf))
        ]
        return Edge(*(self._tensor(x) for x in (affine.mean, affine.scale, *bounds)))

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array, dtype=torch.float32, device=self._device)


def _check_sizes(model: Model) -> None:
    for stage in STAGES:
        sizes = model.spec.stages[stage]
        reason = tiles.refusal(model.spec.horizon // sizes.patch, sizes.width)
        if reason is not None:
            raise BackendUnavailableError(
                f"backend 'triton' cannot run this model: stages.{stage}: {reason}"
            )


def _device(device: str | torch.device | None) -> torch.device:
    if interpreted():
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise BackendUnavailableError("backend 'triton' is unavailable: torch finds no CUDA device")
    chosen = torch.device("cuda" if device is None else device)
    if chosen.type != "cuda":
        raise BackendUnavailableError(f"backend 'triton' runs on a CUDA device, not on {chosen}")
    return torch.device(
        "cuda", torch.cuda.current_device() if chosen.index is None else chosen.index
    )


def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
