"""The native half of dmpc_fast."""

import os
from collections.abc import Sequence
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

class _ModelFile(TypedDict):
    spec_json: str
    tensors: dict[str, NDArray[np.float32]]

def read_model(path: str | os.PathLike[str]) -> _ModelFile: ...
def validate_model(content: bytes) -> None: ...
def philox(counter: NDArray[np.uint32], seed: int) -> NDArray[np.uint32]: ...
def normals(
    *,
    seed: int,
    candidates: NDArray[np.uint32],
    plan_index: int,
    robot: int,
    stage: int,
    step: int,
    steps: int,
    size: int,
) -> NDArray[np.float32]: ...
def sampler_rows(rule: str, angles: Sequence[float]) -> NDArray[np.float64]: ...
def spec_fields() -> dict[str, list[str]]: ...
def instruction_sets() -> list[str]: ...

#: best, actions, states, scores, violations, levels, and the level's fields
_Planned = tuple[
    NDArray[np.int64],
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.float32],
    NDArray[np.int8],
    tuple[int, int, int, int, bool, bool],
]

class PlanRequest:
    def observe(self, observation: NDArray[Any]) -> bool: ...

class Engine:
    def __init__(
        self,
        spec: str,
        tensors: dict[str, NDArray[np.float32]],
        dtype: str,
        *,
        threads: int,
        instruction_set: str,
        spin: bool,
        pin: bool,
    ) -> None: ...
    def request(
        self,
        states: NDArray[np.float32],
        actions: NDArray[np.float32],
        mask: NDArray[np.float32],
        context: NDArray[np.float32],
        seed: int,
        robots: NDArray[np.int64],
        plan_index: NDArray[np.int64],
        groups: list[tuple[Any, ...]],
        terms: list[tuple[Any, ...]] | None,
        deadline_s: float | None = None,
        levels: NDArray[np.int8] | None = None,
    ) -> PlanRequest: ...
    def sample(self, request: PlanRequest) -> NDArray[np.float32]: ...
    def predict(
        self, request: PlanRequest, actions: NDArray[np.float32]
    ) -> NDArray[np.float32]: ...
    def score(
        self, request: PlanRequest, states: NDArray[np.float32], actions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]: ...
    def plan(self, request: PlanRequest) -> _Planned: ...
    def follow(
        self,
        request: PlanRequest,
        chosen: NDArray[np.float32],
        num_elites: int,
        deadline_s: float,
    ) -> _Planned | None: ...
    def react(
        self,
        states: NDArray[np.float32],
        actions: NDArray[np.float32],
        mask: NDArray[np.float32],
        context: NDArray[np.float32],
    ) -> NDArray[np.float32]: ...
    def respond(self, request: PlanRequest) -> NDArray[np.float32] | None: ...
    def least_seconds(self, robots: int, candidates: int) -> float: ...
    def skip(self) -> None: ...
    @property
    def instruction_set(self) -> str: ...
    @property
    def threads(self) -> int: ...

class Planner:
    @staticmethod
    def load(
        path: str | os.PathLike[str],
        *,
        num_samples: int,
        action_chunk: int,
        num_elites: int = 1,
        seed: int,
        dtype: str,
        threads: int,
        mode: str = "plan",
        deadline_s: float = ...,
        search_rounds: int = 0,
        search_angle: float = ...,
        search_parents: int = ...,
        search_children: int | None = None,
    ) -> Planner: ...
    @property
    def source(self) -> str: ...
    def act(
        self,
        observation: NDArray[np.float32],
        previous_action: NDArray[np.float32] | None = None,
        context: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]: ...
    def reset(self) -> None: ...
