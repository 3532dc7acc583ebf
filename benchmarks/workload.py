"""One cell of the grid: a model of random weights, an observation and the noise of its candidates."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from dmpc_fast import philox
from dmpc_fast.backends.base import CandidateGroup, PlanRequest
from dmpc_fast.model_file import Model
from dmpc_fast.normalizer import Normalizer
from dmpc_fast.spec import EnvironmentSpec, ModelSpec, SamplerSpec, preset_stages
from tests.random_models import random_tensors

#: Hopper's sizes, and the defaults of design: F = 32, one observation of history, 8 ms.
STATES, ACTIONS, HORIZON, CONTROL_PERIOD_S = 11, 3, 32, 0.008
SEED = 7


@dataclass(frozen=True)
class Cell:
    """What a row of results is measured on: `steps` is (proposal, dynamics), `num_samples` of each of
    the `robots`."""

    preset: str
    patch: int
    num_samples: int
    steps: tuple[int, int]
    threads: int
    horizon: int = HORIZON
    width: int | None = None
    robots: int = 1

    @property
    def name(self) -> str:
        words = [
            f"{self.preset}-p{self.patch}", f"n{self.num_samples}",
            f"{self.steps[0]}+{self.steps[1]}", f"t{self.threads}",
        ]  # fmt: skip
        if self.horizon != HORIZON:
            words.append(f"f{self.horizon}")
        if self.width is not None:
            words.append(f"w{self.width}")
        if self.robots != 1:
            words.append(f"b{self.robots}")
        return "-".join(words)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, **asdict(self)}


@dataclass(frozen=True)
class Work:
    """A cell made ready: observation (B, S), noise (B N, F, A) and (B N, F, S), all float32."""

    cell: Cell
    model: Model
    observation: np.ndarray
    action_noise: np.ndarray
    state_noise: np.ndarray

    def inputs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What a rival's graph takes."""
        return self.observation, self.action_noise, self.state_noise

    def drawn(self, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Other inputs of the same kind, for rivals that must see data before they can run."""
        rng = np.random.default_rng(seed)
        state = self.model.normalizer.state
        observation = rng.normal(size=self.observation.shape) * state.scale + state.mean
        actions, states = (
            rng.normal(size=noise.shape).astype(np.float32)
            for noise in (self.action_noise, self.state_noise)
        )
        return observation.astype(np.float32), actions, states

    def request(self, num_samples: int | None = None) -> PlanRequest:
        """The same plan as backends take it, of the first `num_samples` candidates."""
        proposal, dynamics = (SamplerSpec.uniform(count) for count in self.cell.steps)
        count, robots = num_samples or self.cell.num_samples, self.cell.robots
        return PlanRequest(
            states=self.observation[:, None],
            actions=np.zeros((robots, 0, ACTIONS), np.float32),
            mask=np.zeros((robots, 0), np.float32),
            context=np.zeros((robots, 0), np.float32),
            seed=SEED,
            robots=np.arange(robots),
            plan_index=np.zeros(robots, np.int64),
            groups=(CandidateGroup(count, proposal, dynamics),),
        )


@lru_cache
def preset_spec(
    preset: str, patch: int, horizon: int = HORIZON, width: int | None = None
) -> ModelSpec:
    """A preset's sizes for Hopper. width: in place of its own, head size and MLP growing with it."""
    sizes = {"patch": patch}
    if width is not None:
        base = preset_stages(preset)["proposal"]
        sizes |= {
            "width": width,
            "head_size": max(1, base.head_size * width // base.width),
            "mlp": base.mlp * width // base.width,
        }
    bounds = ((-1.0,) * ACTIONS, (1.0,) * ACTIONS)
    return ModelSpec(
        STATES, ACTIONS, horizon, 1, 0, 0.99, 100.0, preset_stages(preset, **sizes),
        EnvironmentSpec(None, None, *bounds, CONTROL_PERIOD_S),
    )  # fmt: skip


@lru_cache(maxsize=2)
def random_model(
    preset: str, patch: int, horizon: int = HORIZON, width: int | None = None
) -> Model:
    """Random weights in the sizes of `preset_spec`, the same at every call."""
    spec = preset_spec(preset, patch, horizon, width)
    tensors = random_tensors(np.random.default_rng(SEED), spec)
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].tobytes())
    return Model(spec, Normalizer.from_tensors(tensors), tensors, digest.hexdigest())


def prepare(cell: Cell) -> Work:
    """The model, observation and noise of a cell; every backend draws the same noise itself."""
    model = random_model(cell.preset, cell.patch, cell.horizon, cell.width)
    noise = [
        np.concatenate([
            philox.normals(
                seed=SEED, candidates=np.arange(cell.num_samples), plan_index=0, robot=robot,
                stage=philox.STAGE_IDS[stage], step=0, steps=cell.horizon, size=size,
            ).astype(np.float32)
            for robot in range(cell.robots)
        ])
        for stage, size in (("proposal", ACTIONS), ("dynamics", STATES))
    ]  # fmt: skip
    return Work(cell, model, observations(model, cell.robots), *noise)


def observations(model: Model, robots: int) -> np.ndarray:
    """Of each robot, (B, S): those of fewer robots are the first ones of more."""
    state = model.normalizer.state
    drawn = np.random.default_rng(SEED).normal(size=(robots, STATES)) * state.scale + state.mean
    return drawn.astype(np.float32)
