"""The one random stream: Philox4x32-10 with Box-Muller (Salmon et al. 2011), in NumPy.

key = the 64-bit seed (low word first); counter words = (element // 4, candidate, plan index,
robot << 16 | stage << 8 | step); element = k x dim + i over true time steps, whatever the patch.
Integers are bit-exact on every backend, normals agree to a few ulps.
"""

from __future__ import annotations

import numpy as np

STAGE_IDS = {"proposal": 0, "dynamics": 1}
MAX_ROBOT = 0xFFFF
MAX_STEP = 0xFF
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW, _SHIFT = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox4x32(counter: np.ndarray, seed: int) -> np.ndarray:
    """Random words (..., 4) uint32 for counters (..., 4) uint32 under the 64-bit `seed`."""
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must be an integer from 0 to 2^64 - 1, got {seed}")
    c0, c1, c2, c3 = (counter[..., i].astype(np.uint64) for i in range(4))
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c2 = (p1 >> _SHIFT) ^ c1 ^ np.uint64(k0), (p0 >> _SHIFT) ^ c3 ^ np.uint64(k1)
        c1, c3 = p1 & _LOW, p0 & _LOW
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def normals(
    *,
    seed: int,
    candidates: np.ndarray,
    plan_index: int,
    robot: int,
    stage: int,
    step: int,
    steps: int,
    size: int,
) -> np.ndarray:
    """Standard normals for one robot, float64 (candidates, steps, size).

    candidates: (N,) candidate indices; steps: F time steps; size: features per step;
    step: 0 for the initial noise, i + 1 for the fresh noise of sampler row i.
    """
    batch: np.ndarray = batched_normals(
        seed=seed,
        candidates=candidates,
        plan_index=np.asarray([plan_index]),
        robots=np.asarray([robot]),
        stage=stage,
        step=step,
        steps=steps,
        size=size,
    )
    return batch[0]


def batched_normals(
    *,
    seed: int,
    candidates: np.ndarray,
    plan_index: np.ndarray,
    robots: np.ndarray,
    stage: int,
    step: int,
    steps: int,
    size: int,
) -> np.ndarray:
    """`normals` of several robots at once: plan_index, robots (B,) -> float64 (B, N, steps, size)."""
    in_range = np.all((robots >= 0) & (robots <= MAX_ROBOT)) and 0 <= step <= MAX_STEP
    if not in_range:
        raise ValueError(
            f"robot must be at most {MAX_ROBOT} and step at most {MAX_STEP}, got {robots}, {step}"
        )
    count, rows = steps * size, (len(robots), len(candidates))
    counter = np.zeros((*rows, -(-count // 4), 4), np.uint32)
    counter[..., 0] = np.arange(counter.shape[2], dtype=np.uint32)
    counter[..., 1] = np.asarray(candidates, np.uint32)[None, :, None]
    counter[..., 2] = (np.asarray(plan_index, np.int64) & 0xFFFFFFFF)[:, None, None]
    counter[..., 3] = (np.asarray(robots, np.int64) << 16 | stage << 8 | step)[:, None, None]
    uniform = ((philox4x32(counter, seed) >> np.uint32(8)) + 0.5) * 2.0**-24
    radius = np.sqrt(-2.0 * np.log(uniform[..., 0::2]))
    phase = 2.0 * np.pi * uniform[..., 1::2]
    pairs = np.stack([radius * np.cos(phase), radius * np.sin(phase)], axis=-1)
    return pairs.reshape(*rows, -1)[..., :count].reshape(*rows, steps, size)
