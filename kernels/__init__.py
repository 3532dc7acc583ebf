"""Fused Triton kernels of a plan and of training, one op per file, each beside its plain reference.

An op is a launcher that takes tensors, sizes and a tile, uses the current stream alone and never
synchronises; `fused_attention` and `fused_mlp` make operators of theirs that torch differentiates.
Kernels know no model, no file and no Python object. With TRITON_INTERPRET=1 in the environment they
run on CPU tensors in Triton's interpreter, which is for tests.
"""
