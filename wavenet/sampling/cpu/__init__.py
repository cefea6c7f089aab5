"""The CPU backend: the loop over samples, compiled by Numba (docs/explanation/kernels.md)."""

from wavenet.sampling.cpu.cpu_sampler import CpuSampler

__all__ = ["CpuSampler"]
