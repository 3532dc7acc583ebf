"""Compiles every kernel for GPUs that need not be there, and prints the shared memory each takes.

python compile_ahead.py ARCHITECTURE PRECISION PRESET COUNT, with TRITON_INTERPRET unset: the types of
kernels, which the interpreter does not check, and the memory of their tiles.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from dmpc_fast.kernels.attention import _attention_kernel
from dmpc_fast.kernels.embedding import _embedding_kernel
from dmpc_fast.kernels.mlp import _mlp_kernel
from dmpc_fast.kernels.philox import _start_kernel
from dmpc_fast.kernels.precision import PRECISIONS
from dmpc_fast.kernels.ranking import _ranking_kernel
from dmpc_fast.kernels.scoring import _scoring_kernel
from dmpc_fast.kernels.tiles import Tile, choose_tile, chunk
from dmpc_fast.kernels.update import _update_kernel
from dmpc_fast.spec import StageSpec, preset_stages

TOKENS, STATES, ACTIONS, PROCESSORS = 32, 11, 3, 132
#: Types of what is neither float32 data nor a constant.
TYPES = {
    "seed": "*i64", "words": "*i32", "best": "*i64", "part_stride": "i64", "member_stride": "i64",
    "modulation_stride": "i32", "count": "i32", "first": "i32", "total": "i32", "size": "i32",
    "stride": "i32", "stage": "i32", "stage_and_step": "i32", "num_terms": "i32", "a": "fp32",
    "b": "fp32", "noise": "fp32", "cos": "fp32", "sin": "fp32",
}  # fmt: skip
INNER_WEIGHTS = ("qkv", "projection", "into", "outward")


def kernels(stage: StageSpec, precision: str, count: int) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Name -> kernel and its constants."""
    inner, ends = PRECISIONS[precision].inner, PRECISIONS[precision].ends

    def tile(units: int) -> Tile:
        return choose_tile(
            tokens=TOKENS, width=stage.width, units=units, robots=1, count=count,
            processors=PROCESSORS, precision=inner,
        )  # fmt: skip

    heads, columns, whole = tile(stage.heads), tile(32), tile(1)
    common = {"TOKENS": TOKENS, "WIDTH": stage.width, "BLOCK_W": whole.width}

    def rows(tile: Tile) -> dict[str, Any]:
        return {**common, "BLOCK_R": tile.rows, "BLOCK_T": tile.tokens}

    return {
        "attention": (_attention_kernel, {
            **rows(heads), "HEADS": stage.heads, "HEAD_SIZE": stage.head_size, "PARTS": 2,
            "SPLITS": heads.splits, "PRECISION": inner,
            "BLOCK_D": chunk(stage.head_size, heads.columns)}),
        "mlp": (_mlp_kernel, {
            **rows(columns), "HIDDEN": stage.mlp, "PARTS": 2, "SPLITS": columns.splits,
            "PRECISION": inner, "BLOCK_M": chunk(stage.mlp, columns.columns)}),
        "embedding": (_embedding_kernel, {
            **rows(whole), "NOISY": STATES, "CLEAN": ACTIONS, "PRECISION": ends, "BLOCK_NOISY": 16,
            "BLOCK_CLEAN": 16}),
        "update": (_update_kernel, {
            **rows(whole), "OUTPUTS": STATES, "FEATURES": STATES, "PARTS": 2, "NOISY": True,
            "FRESH": True, "LAST": True, "PRECISION": ends, "BLOCK_O": 16}),
        "start": (_start_kernel, {"GIVEN": True, "BLOCK": 512}),
        "scoring": (_scoring_kernel, {
            "STATES": STATES, "ACTIONS": ACTIONS, "HORIZON": TOKENS, "MEMBERS": 2, "LEARNED": True,
            "BLOCK_C": 32, "BLOCK_F": TOKENS}),
        "ranking": (_ranking_kernel, {"ACTIONS": ACTIONS, "BLOCK": 64, "BLOCK_A": 4}),
    }  # fmt: skip


def shared_bytes(
    kernel: Any, constants: dict[str, Any], architecture: int, precision: str, tile: Tile
) -> int:
    """Shared memory of a kernel compiled for an architecture such as 80 or 90."""
    names = kernel.arg_names
    stored = "*bf16" if precision == "bf16" else "*fp32"
    signature = {
        name: "constexpr"
        if name in constants
        else stored
        if name in INNER_WEIGHTS
        else TYPES.get(name, "*fp32")
        for name in names
    }
    source = ASTSource(
        fn=kernel,
        signature=signature,
        constexprs={(names.index(name),): value for name, value in constants.items()},
        # What the launcher finds of tensors that torch allocated.
        attrs={
            (i,): [["tt.divisibility", 16]]
            for i, name in enumerate(names)
            if signature[name].startswith("*")
        },
    )
    compiled = triton.compile(
        source,
        target=GPUTarget("cuda", architecture, 32),
        options={"num_warps": tile.warps, "num_stages": tile.stages},
    )
    return int(compiled.metadata.shared)


def main() -> None:
    architecture, precision, preset, count = sys.argv[1:]
    stage = preset_stages(preset)["dynamics"]
    tile = choose_tile(
        tokens=TOKENS, width=stage.width, units=1, robots=1, count=int(count),
        processors=PROCESSORS, precision=PRECISIONS[precision].inner,
    )  # fmt: skip
    found = {
        name: shared_bytes(kernel, constants, int(architecture), precision, tile)
        for name, (kernel, constants) in kernels(stage, precision, int(count)).items()
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
