"""The native half of dmpc_fast."""

import os
from collections.abc import Sequence
from typing import TypedDict

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
