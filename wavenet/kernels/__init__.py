"""Compiled code of sampling and training.

vectors.py           arithmetic on sixteen numbers, as LLVM instructions
scalars.py           single numbers
matmul.py            matrix products for weights in float32, bfloat16 and int8
elementwise.py       activations and the like
openmp.py            kernels on PyTorch's own threads
gated_activation.py  tanh times sigmoid, forward and backward, for training
row_products.py      products of the training pass in float32, for AMD with AVX-512
cross_entropy.py     cross entropy, forward and backward, for training
predictor_coefficients.py  linear predictors from mel frames
past_coefficients.py  linear predictors from past samples
cpu_predictors.py    both in the place of those in PyTorch
sampler/             the loop over samples, for the CPU sampler
annotations.py       the types of arguments
compiler.py          how all of it is compiled; the one file that uses what Numba does not document
cache.py             compiled code on disk
cuda/                CUDA C++, compiled by NVRTC
sources.py           the files that it is made from
private_files.py     its folder and files, which nobody else can write
second_process.py    the sampler's kernel compiled while a command begins
"""
