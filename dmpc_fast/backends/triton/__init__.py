"""The Triton backend: the kernels of `dmpc_fast.kernels` put together to a plan, one CUDA graph each."""
