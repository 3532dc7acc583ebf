"""The random stream in a kernel: Philox4x32-10 and Box-Muller, and the starts of samplers.

Normals are those of the float64 definition to a few ulps. In float32 that takes care in two places.
Where u is near 1, log u is small and u itself has no digits left to say how small: 1 - u is exact, so
log(1 - (1 - u)) is computed from it. And an angle near a full turn has lost digits: u is reduced to
an eighth of a turn about a multiple of a quarter while it is still exact.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 512
_UNIT = tl.constexpr(2.0**-24)
_HALF = tl.constexpr(1 << 23)
_TURN = tl.constexpr(6.283185307179586)


@triton.jit
def _radius(bits):
    """sqrt(-2 log u) with u = (bits + 1/2) / 2^24."""
    high = bits >= _HALF
    # Both are below 2^23 plus a half, hence exact.
    whole = tl.where(high, (1 << 24) - 1 - bits, bits)
    small = (whole.to(tl.float32) + 0.5) * _UNIT
    below = tl.log(small)
    # log(1 - w) with w = `small`: the rounding of 1 - w is taken out again by the quotient.
    rest = 1.0 - small
    lost = rest - 1.0
    above = tl.where(
        lost == 0.0, -small, tl.log(rest) * (-small / tl.where(lost == 0.0, 1.0, lost))
    )
    return tl.sqrt(-2.0 * tl.where(high, above, below))


@triton.jit
def _cos_sin(bits):
    """Cosine and sine of 2 pi u with u = (bits + 1/2) / 2^24."""
    quarter = (bits + (1 << 21)) >> 22
    rest = (bits - (quarter << 22)).to(tl.float32) + 0.5
    angle = _TURN * (rest * _UNIT)
    cos, sin = tl.cos(angle), tl.sin(angle)
    odd = (quarter & 1) == 1
    # Quarter turns: (cos, sin) -> (-sin, cos).
    first, second = tl.where(odd, -sin, cos), tl.where(odd, cos, sin)
    back = (quarter & 2) == 2
    return tl.where(back, -first, first), tl.where(back, -second, second)


@triton.jit
def standard_normals(seed, element, candidate, plan_index, last):
    """Normals of the shape of `element`; the other words of the counter broadcast against it.

    seed: int64 scalar. element: int32, k x size + i over true steps. candidate, plan_index: int32,
    32-bit words. last: int32, robot << 16 | stage << 8 | step.
    """
    zero = element * 0
    w0, w1, w2, w3 = tl.philox(
        seed.to(tl.uint64, bitcast=True),
        (element >> 2).to(tl.uint32, bitcast=True),
        (candidate + zero).to(tl.uint32, bitcast=True),
        (plan_index + zero).to(tl.uint32, bitcast=True),
        (last + zero).to(tl.uint32, bitcast=True),
    )
    second_pair = (element & 2) == 2
    bits = (tl.where(second_pair, w2, w0) >> 8).to(tl.int32)
    phase = (tl.where(second_pair, w3, w1) >> 8).to(tl.int32)
    cos, sin = _cos_sin(phase)
    return _radius(bits) * tl.where((element & 1) == 1, sin, cos)


@triton.jit(do_not_specialize=["first", "stage"])
def _start_kernel(
    given, seed, words, out, count, first, total, size, cos, sin, stage,
    GIVEN: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    robot = tl.program_id(2)
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    candidate, element = position // size, position % size
    inside = candidate < count
    noise = standard_normals(
        tl.load(seed), element, first + candidate, tl.load(words + 2 * robot),
        tl.load(words + 2 * robot + 1) | (stage << 8),
    )  # fmt: skip
    value = sin * noise
    if GIVEN:
        at = (robot.to(tl.int64) * count + candidate) * size + element
        value += cos * tl.load(given + at, inside, other=0.0)
    to = (robot.to(tl.int64) * total + first + candidate) * size + element
    tl.store(out + to, value, mask=inside)


def start(
    given: Tensor | None,
    seed: Tensor,
    words: Tensor,
    out: Tensor,
    *,
    first: int,
    count: int,
    cos: float,
    sin: float,
    stage: int,
) -> None:
    """Write cos * given + sin * noise to candidates first .. first + count - 1 of `out`.

    out (B, N, F, X), given (B, count, F, X) or None for no first summand: contiguous float32. seed:
    (1,) int64. words: (B, 2) int32, the plan index and robot << 16, as 32-bit words. stage: its
    number in the random stream, of which this is step 0.
    """
    robots, total = out.shape[:2]
    size = out[0, 0].numel()
    grid = (-(-count * size // BLOCK), 1, robots)
    _start_kernel[grid](
        out if given is None else given, seed, words, out, count, first, total, size, cos, sin,
        stage, GIVEN=given is not None, BLOCK=BLOCK,
    )  # fmt: skip


def start_reference(given: Tensor | None, noise: Tensor, cos: float, sin: float) -> Tensor:
    """What `start` writes, of the stream's own normals (B, count, F, X)."""
    return sin * noise if given is None else cos * given + sin * noise
