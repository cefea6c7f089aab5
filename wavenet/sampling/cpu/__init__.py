"""The CPU backend: the loop over samples compiled by Numba; docs/kernels.md describes it."""

from wavenet.sampling.cpu.cpu_sampler import CpuSampler

__all__ = ["CpuSampler"]
