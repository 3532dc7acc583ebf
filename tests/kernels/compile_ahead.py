"""Compiles every kernel for GPUs that need not be there, and prints the shared memory each takes.

python compile_ahead.py ARCHITECTURE PRECISION PRESET COUNT WHAT, with TRITON_INTERPRET unset: the types
of kernels, which the interpreter does not check, and the memory of their tiles. WHAT is plan or
training.
"""

from __future__ import annotations

import json
import sys
from typing import Any, NamedTuple

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from dmpc_fast.kernels.attention import _attention_kernel
from dmpc_fast.kernels.attention_block import _attention_block_kernel
from dmpc_fast.kernels.attention_block_backward import _attention_block_backward_kernel
from dmpc_fast.kernels.embedding import _embedding_kernel
from dmpc_fast.kernels.mlp import _mlp_kernel
from dmpc_fast.kernels.mlp_block import _mlp_block_backward_kernel, _mlp_block_kernel
from dmpc_fast.kernels.philox import _start_kernel
from dmpc_fast.kernels.precision import PRECISIONS
from dmpc_fast.kernels.ranking import _ranking_kernel
from dmpc_fast.kernels.scoring import _scoring_kernel
from dmpc_fast.kernels.tiles import Tile, choose_tile, choose_training_tile, chunk
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
#: What is in the storage dtype of the precision: weights, and what training keeps of activations.
STORED = (
    "qkv", "projection", "into", "outward", "update", "out_update", "kept_rows", "d_update",
    "kept_attended", "d_qkv", "active", "d_hidden",
)  # fmt: skip


class Compiled(NamedTuple):
    """A kernel, its constants and its tile, which says with how many warps and stages it runs."""

    kernel: Any
    constants: dict[str, Any]
    tile: Tile


def planning_kernels(stage: StageSpec, precision: str, count: int) -> dict[str, Compiled]:
    """Those of a plan of `count` candidates."""
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

    found: dict[str, tuple[Any, dict[str, Any]]] = {
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
    return {name: Compiled(*entry, whole) for name, entry in found.items()}


def training_kernels(stage: StageSpec, precision: str, count: int) -> dict[str, Compiled]:
    """Those of a training step on `count` windows."""
    inner = PRECISIONS[precision].inner
    tile = choose_training_tile(
        tokens=TOKENS, width=stage.width, count=count, processors=PROCESSORS, precision=inner
    )
    rows = {
        "TOKENS": TOKENS, "WIDTH": stage.width, "PRECISION": inner, "BLOCK_R": tile.rows,
        "BLOCK_T": tile.tokens, "BLOCK_W": tile.width,
    }  # fmt: skip
    heads = {
        **rows, "HEADS": stage.heads, "HEAD_SIZE": stage.head_size, "MASKED": True,
        "BLOCK_D": chunk(stage.head_size, tile.columns),
    }  # fmt: skip
    columns = {**rows, "HIDDEN": stage.mlp, "BLOCK_M": chunk(stage.mlp, tile.columns)}
    return {
        "attention_block": Compiled(_attention_block_kernel, heads, tile),
        "attention_block_backward": Compiled(_attention_block_backward_kernel, heads, tile),
        "mlp_block": Compiled(_mlp_block_kernel, columns, tile),
        "mlp_block_backward": Compiled(_mlp_block_backward_kernel, columns, tile),
    }


KERNELS = {"plan": planning_kernels, "training": training_kernels}


def shared_bytes(given: Compiled, architecture: int, precision: str) -> int:
    """Shared memory of a kernel compiled for an architecture such as 80 or 90."""
    kernel, constants, tile = given
    names = kernel.arg_names
    stored = "*bf16" if precision == "bf16" else "*fp32"
    signature = {
        name: "constexpr"
        if name in constants
        else stored
        if name in STORED
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
    architecture, precision, preset, count, what = sys.argv[1:]
    stage = preset_stages(preset)["dynamics"]
    found = {
        name: shared_bytes(compiled, int(architecture), precision)
        for name, compiled in KERNELS[what](stage, precision, int(count)).items()
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
