"""How fast all multiprocessors together read the same data from L2, as clusters read weights."""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096


@triton.jit
def _read_kernel(data, out, chunks, repeats, BLOCK: tl.constexpr):
    """Every program reads all `chunks` of BLOCK floats `repeats` times, each from another one on."""
    program = tl.program_id(0)
    lane = tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), tl.float32)
    for step in range(chunks * repeats):
        chunk = (program * 7 + step) % chunks
        # .cg: past the cache of the multiprocessor.
        total += tl.load(data + chunk * BLOCK + lane, cache_modifier=".cg")
    tl.store(out + program, tl.sum(total))


def read(data: Tensor, out: Tensor, repeats: int) -> None:
    """out (programs,): each the sum of data (a multiple of BLOCK floats), `repeats` times over."""
    chunks = data.numel() // BLOCK
    _read_kernel[(len(out),)](data, out, chunks, repeats, BLOCK=BLOCK, num_warps=8)
