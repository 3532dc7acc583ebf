"""Fused Triton kernels of a plan, one op per file, each beside its plain reference in torch.

An op is a launcher that takes tensors, sizes and a tile, uses the current stream alone and never
synchronises. Kernels know no model, no file and no Python object. With TRITON_INTERPRET=1 in the
environment they run on CPU tensors in Triton's interpreter, which is for tests.
"""
