"""Generation on CPUs, faster than real time on one core: the loop compiled by Numba.

vector.py      arithmetic on sixteen numbers, for the compiler
products.py    matrix products in float32, bfloat16 and int8
arithmetic.py  gates and the like
drawing.py     the draw of a class
teamwork.py    what threads of a team tell each other
kernel.py      the loop over samples, and the arrays it works on
packing.py     a model in these arrays
state.py       where a batch stands, in these arrays
cache.py       compiled code from one process to the next
sampler.py     what the rest of the package sees
"""

from wavenet.sampling.cpu.cpu_sampler import CpuSampler

__all__ = ["CpuSampler"]
