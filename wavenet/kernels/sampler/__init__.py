"""The loop over samples of the CPU sampler, compiled by Numba (docs/explanation/kernels.md).

It needs no PyTorch: a second process compiles it while a command begins, without importing that.
"""
