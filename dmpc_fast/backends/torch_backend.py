"""The reference backend: every stage written out in torch, in float64, float32 or bf16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dmpc_fast import noise, objectives, philox
from dmpc_fast.backends.base import (
    BackendUnavailableError,
    CandidateGroup,
    PlanRequest,
    PlanResult,
    check_array,
    check_policy,
    check_request,
)
from dmpc_fast.model_file import Model
from dmpc_fast.models.loading import load_networks
from dmpc_fast.models.network import TrajectoryTransformer
from dmpc_fast.models.objective import decode_objective
from dmpc_fast.models.policy import load_policy
from dmpc_fast.normalizer import Affine, condition_vector
from dmpc_fast.spec import SamplerSpec

#: Candidates that go through a network together: enough to hide the cost of calls, few enough that
#: their activations stay in cache and that memory is bounded.
CHUNK = 256
#: From this many candidates on, a robot's are run on their own, so that modulation is computed once.
OWN_CHUNK = 16


class TorchBackend:
    """The reference: clear rather than fast.

    Args:
        model: the loaded model. dtype: ``float32``, ``float64`` (for reference values) or ``bf16``
            (float32 with the networks under autocast).
        device: a torch device. threads: sets torch's threads for the whole process if given.
    """

    name = "torch"

    def __init__(
        self,
        model: Model,
        *,
        dtype: str = "float32",
        device: str | torch.device = "cpu",
        threads: int | None = None,
    ) -> None:
        if dtype not in ("float32", "float64", "bf16"):
            raise BackendUnavailableError(
                f"backend 'torch' runs dtype 'float32', 'float64' or 'bf16', not {dtype!r}"
            )
        self._device = torch.device(device)
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise BackendUnavailableError("backend 'torch': torch finds no CUDA device")
        if threads is not None:
            torch.set_num_threads(threads)
        self._spec, self._normalizer = model.spec, model.normalizer
        self._autocast = dtype == "bf16"
        self._dtype = torch.float64 if dtype == "float64" else torch.float32
        self._networks = load_networks(
            model.spec, model.tensors, dtype=self._dtype, device=self._device
        )
        self._policy = load_policy(
            model.spec, model.tensors, dtype=self._dtype, device=self._device
        )
        self._state, self._action = self._affine("state"), self._affine("action")
        self._reward, self._value = self._affine("reward"), self._affine("value")
        environment = model.spec.environment
        self._low = self._bound(environment.action_low, -np.inf)
        self._high = self._bound(environment.action_high, np.inf)
        powers = objectives.discount_powers(model.spec.discount, model.spec.horizon)
        self._discounts = self._tensor(powers)

    @torch.inference_mode()
    def sample(self, request: PlanRequest) -> np.ndarray:
        """Draw proposals: (B, N, F, A), clipped to the action bounds."""
        self._check(request)
        return self._array(self._sample(request))

    @torch.inference_mode()
    def predict(self, request: PlanRequest, actions: np.ndarray) -> np.ndarray:
        """States (B, N, F, S) that follow `actions` (B, N, F, A)."""
        self._check(request, actions=actions)
        return self._array(self._predict(request, self._tensor(actions)))

    @torch.inference_mode()
    def score(
        self, request: PlanRequest, states: np.ndarray, actions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, violations and tie-breaks, each (B, N), of given trajectories."""
        self._check(request, actions=actions, states=states)
        evaluation = self._score(request, self._tensor(states), self._tensor(actions))
        scores, violations, tie_breaks = (self._array(part) for part in evaluation)
        return scores, violations, tie_breaks

    @torch.inference_mode()
    def plan(self, request: PlanRequest) -> PlanResult:
        """sample, predict, score and rank as one."""
        self._check(request)
        actions = self._sample(request)
        states = self._predict(request, actions)
        ranked = [self._array(part) for part in self._score(request, states, actions)]
        best = objectives.best_candidate(*ranked)
        return PlanResult(best, self._array(actions), self._array(states), ranked[0], ranked[1])

    @torch.inference_mode()
    def react(self, request: PlanRequest) -> np.ndarray:
        """The policy's actions (B, A), clipped to the action bounds."""
        check_policy(self._spec)
        assert self._policy is not None
        self._check(request)
        actions = self._action.denormalize(self._policy(self._condition(request)))
        return self._array(actions.clamp(self._low, self._high))

    def _sample(self, request: PlanRequest) -> Tensor:
        condition, parts = self._condition(request), []
        for first, group in _numbered(request.groups):
            shape = (self._spec.horizon, self._spec.action_size)
            sampler = group.proposal or self._spec.stages["proposal"].sampler
            start = None
            if group.start is not None:
                start = self._action.normalize(self._tensor(group.start))
            parts.append(
                self._denoise("proposal", request, first, group, sampler, shape, condition, start)
            )
        actions = self._action.denormalize(torch.cat(parts, dim=1))
        return actions.clamp(self._low, self._high)

    def _predict(self, request: PlanRequest, actions: Tensor) -> Tensor:
        condition, parts = self._condition(request), []
        given = self._action.normalize(actions)
        for first, group in _numbered(request.groups):
            shape = (self._spec.horizon, self._spec.state_size)
            sampler = group.dynamics or self._spec.stages["dynamics"].sampler
            clean = given[:, first : first + group.count]
            parts.append(
                self._denoise(
                    "dynamics", request, first, group, sampler, shape, condition, clean=clean
                )
            )
        return self._state.denormalize(torch.cat(parts, dim=1))

    def _score(
        self, request: PlanRequest, states: Tensor, actions: Tensor
    ) -> objectives.Evaluation:
        learned = None
        if objectives.needs_learned(request.objective):
            condition = self._condition(request)
            clean = torch.cat(
                [self._state.normalize(states), self._action.normalize(actions)], dim=-1
            )
            outputs = [
                self._run(member, None, clean, condition, None, None)
                for member in self._networks.objective
            ]
            learned = decode_objective(
                torch.stack(outputs),
                reward_mean=self._reward.mean, reward_scale=self._reward.scale,
                value_mean=self._value.mean, value_scale=self._value.scale,
            )  # fmt: skip
        return objectives.evaluate(
            request.objective,
            states,
            actions,
            discounts=self._discounts,
            penalty=self._spec.termination_penalty,
            learned=learned,
            xp=torch,
        )

    def _denoise(
        self,
        stage: str,
        request: PlanRequest,
        first: int,
        group: CandidateGroup,
        sampler: SamplerSpec | None,
        shape: tuple[int, int],
        condition: Tensor,
        start: Tensor | None = None,
        clean: Tensor | None = None,
    ) -> Tensor:
        """The final x of one group, normalised (B, count, F, X): the loop over a sampler's rows."""
        assert sampler is not None  # the spec gives every denoised stage one
        network: TrajectoryTransformer = getattr(self._networks, stage)
        candidates = np.arange(first, first + group.count)

        def normals(step: int) -> Tensor:
            return self._tensor(
                philox.batched_normals(
                    seed=request.seed,
                    candidates=candidates,
                    plan_index=request.plan_index,
                    robots=request.robots,
                    stage=philox.STAGE_IDS[stage],
                    step=step,
                    steps=shape[0],
                    size=shape[1],
                )
            )

        rows = noise.compile_sampler(sampler)
        x = normals(0)
        if start is not None:
            x = noise.diffuse(start, x, rows[0].t)
        for i, row in enumerate(rows):
            x = row.a * x + row.b * self._run(network, x, clean, condition, row.t, row.s)
            if row.noise:
                x = x + row.noise * normals(i + 1)
        return x

    def _run(
        self,
        network: TrajectoryTransformer,
        noisy: Tensor | None,
        clean: Tensor | None,
        condition: Tensor,
        angle: float | None,
        target: float | None,
    ) -> Tensor:
        """Network outputs (B, N, F, O) of noisy (B, N, F, X) and clean (B, N, F, U), in chunks."""
        example = noisy if noisy is not None else clean
        assert example is not None
        robots, count = example.shape[:2]
        t, s = self._angle(angle), self._angle(target)
        parts = []
        for row, column in _chunks(robots, count):
            own = condition[row]
            given = [None if x is None else x[row, column].flatten(0, 1) for x in (noisy, clean)]
            if len(own) > 1:
                own = own.repeat_interleave(min(count, CHUNK), dim=0)
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
                parts.append(network(given[0], given[1], own, t, s).to(self._dtype))
        return torch.cat(parts).reshape(robots, count, self._spec.horizon, -1)

    def _condition(self, request: PlanRequest) -> Tensor:
        return self._tensor(
            condition_vector(
                self._normalizer, request.states, request.actions, request.mask, request.context
            )
        )

    def _check(self, request: PlanRequest, **trajectories: np.ndarray) -> None:
        check_request(self._spec, request)
        if request.deadline_s is not None:
            raise ValueError("backend 'torch' keeps no deadlines: deadline_s must be None")
        if request.levels is not None:
            raise ValueError("backend 'torch' plans everything: levels must be None")
        spec = self._spec
        sizes = {"actions": spec.action_size, "states": spec.state_size}
        for name, array in trajectories.items():
            shape = (len(request.states), request.num_samples, spec.horizon, sizes[name])
            check_array(name, array, shape, self._numpy_dtype)

    @property
    def _numpy_dtype(self) -> type:
        return np.float64 if self._dtype is torch.float64 else np.float32

    def _angle(self, angle: float | None) -> Tensor | None:
        if angle is None:
            return None
        return torch.tensor([angle], dtype=torch.float64, device=self._device)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=self._dtype, device=self._device)

    def _array(self, tensor: Tensor) -> np.ndarray:
        array: np.ndarray = tensor.contiguous().cpu().numpy()
        return array

    def _affine(self, name: str) -> Any:
        """The model's statistics as tensors: `Affine` maps those as well."""
        affine: Affine = getattr(self._normalizer, name)
        mean, scale = self._tensor(affine.mean), self._tensor(affine.scale)
        return Affine(mean, scale)  # type: ignore[arg-type]

    def _bound(self, bounds: tuple[float | None, ...], absent: float) -> Tensor:
        # The bounds of the public edge are float32, so every dtype clips to those.
        values = np.array([absent if bound is None else bound for bound in bounds], np.float32)
        return self._tensor(values)


def _numbered(groups: tuple[CandidateGroup, ...]) -> Iterator[tuple[int, CandidateGroup]]:
    """Each group with the number of its first candidate."""
    first = 0
    for group in groups:
        yield first, group
        first += group.count


def _chunks(robots: int, count: int) -> Iterator[tuple[slice, slice]]:
    """Slices of robots and candidates that cover (robots, count) in C order."""
    together = 1 if count >= OWN_CHUNK else CHUNK // count
    for robot in range(0, robots, together):
        for candidate in range(0, count, CHUNK):
            yield slice(robot, robot + together), slice(candidate, candidate + CHUNK)
