"""The sampler for many streams on NVIDIA GPUs: a kernel of tensor cores, compiled at first use.

kernels/       the kernel, in CUDA C++ without headers
task.py        the program of `wavenet.kernels.cuda`, and the arguments of a launch
packing.py     weights and activations in the order in which threads read them
prediction.py  coefficients and past samples of a linear predictor
warp_state.py  queues of the streams, and their conversion
cuda_sampler.py  the sampler
"""

from wavenet.sampling.cuda.cuda_sampler import CudaSampler as CudaSampler
