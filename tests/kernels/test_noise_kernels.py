"""The random stream of kernels against the package's own, where float32 is at its weakest, too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from dmpc_fast import philox
from dmpc_fast.kernels.philox import _cos_sin, _radius, start, start_reference
from dmpc_fast.kernels.stream import no_parts
from dmpc_fast.kernels.tiles import choose_tile
from dmpc_fast.kernels.update import LastLayer, Row, update

#: Of the last place that a normal may be off.
ULPS = 6


@triton.jit
def _transforms_kernel(bits, radius, cos, sin, COUNT: tl.constexpr):
    lane = tl.arange(0, COUNT)
    given = tl.load(bits + lane)
    tl.store(radius + lane, _radius(given))
    first, second = _cos_sin(given)
    tl.store(cos + lane, first)
    tl.store(sin + lane, second)


def ulps(values: torch.Tensor, exact: np.ndarray) -> float:
    distance = np.abs(values.cpu().numpy().astype(np.float64) - exact)
    return float((distance / np.spacing(np.abs(exact).astype(np.float32))).max())


def test_transforms_are_exact_to_ulps_everywhere(device: torch.device) -> None:
    """Both ends, the middle, the borders of eighth turns, and what lies between."""
    rng = np.random.default_rng()
    edges = np.arange(0, 9) * (1 << 21)
    near = (edges[:, None] + np.arange(-8, 8)).ravel()
    bits = np.concatenate([near[(near >= 0) & (near < 1 << 24)], rng.integers(0, 1 << 24, 4096)])
    bits = bits[:4096].astype(np.int32)
    radius, cos, sin = (torch.full((4096,), float("nan"), device=device) for _ in range(3))
    _transforms_kernel[(1,)](torch.from_numpy(bits).to(device), radius, cos, sin, COUNT=4096)
    u = (bits + 0.5) * 2.0**-24
    assert ulps(radius, np.sqrt(-2 * np.log(u))) <= ULPS
    assert ulps(cos, np.cos(2 * np.pi * u)) <= ULPS
    assert ulps(sin, np.sin(2 * np.pi * u)) <= ULPS


def keys(
    seed: int, plans: np.ndarray, robots: np.ndarray, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    words = np.stack([plans & 0xFFFFFFFF, robots << 16], axis=-1).astype(np.uint32)
    packed = np.array([seed], np.uint64).view(np.int64)
    return torch.from_numpy(packed).to(device), torch.from_numpy(words.view(np.int32)).to(device)


@pytest.mark.parametrize("seed", [0, 1 << 31, (1 << 64) - 1])
@pytest.mark.parametrize("given", [False, True], ids=["noise", "given"])
def test_start(seed: int, given: bool, device: torch.device) -> None:
    plans, robots = np.array([3, 2**32 - 1]), np.array([65535, 0])
    key = keys(seed, plans, robots, device)
    out = torch.full((2, 9, 5, 7), float("nan"), device=device)
    actions = torch.randn(2, 6, 5, 7, device=device) if given else None
    start(actions, *key, out, first=2, count=6, cos=0.6, sin=0.8, stage=1)
    noise = philox.batched_normals(
        seed=seed, candidates=np.arange(2, 8), plan_index=plans, robots=robots, stage=1, step=0,
        steps=5, size=7,
    )  # fmt: skip
    exact = start_reference(
        None if actions is None else actions.double().cpu(), torch.from_numpy(noise), 0.6, 0.8
    )
    found = out[:, 2:8].cpu()
    assert out[:, :2].isnan().all()
    assert out[:, 8:].isnan().all()
    assert (found.double() - exact).abs().max() <= 2.0**-20


def test_fresh_noise_of_a_row_is_the_streams(device: torch.device) -> None:
    """A row that keeps nothing else gives the normals of its step, whatever the patch."""
    robots, count, first, tokens, patch, size, width = 2, 3, 4, 3, 2, 3, 5
    plans, numbers = np.array([9, 10]), np.array([1, 2])
    key = keys(77, plans, numbers, device)
    x = torch.randn(robots, count, tokens, width, device=device)
    layer = LastLayer(
        torch.randn(width, patch * size, device=device), torch.randn(patch * size, device=device)
    )
    noisy = torch.randn(robots, 9, tokens * patch, size, device=device)
    tile = choose_tile(
        tokens=tokens, width=width, units=1, robots=robots, count=count, processors=1,
        precision="ieee",
    )  # fmt: skip
    modulation = torch.randn(robots, 2 * width, device=device)
    update(
        x, no_parts(x), modulation, layer, noisy, *key, row=Row(0.0, 0.0, 1.0, 1, 12), first=first,
        tile=tile, precision="ieee",
    )  # fmt: skip
    exact = philox.batched_normals(
        seed=77, candidates=np.arange(first, first + count), plan_index=plans, robots=numbers,
        stage=1, step=12, steps=tokens * patch, size=size,
    )  # fmt: skip
    assert ulps(noisy[:, first : first + count], exact) <= ULPS
