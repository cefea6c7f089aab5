"""CUDA C++ that sampling and training share, compiled at first use by NVRTC.

compiler.py          NVRTC, and the cache of what it compiled
driver.py            loading and launching through the CUDA driver; the one file that needs a GPU
launch.py            one launch and its arguments
machine.cuh          what kernels ask of a GPU; tests/gpu/stand_in has it for a machine without one
gated_activation.cu  tanh times sigmoid, forward and backward, for training
gated_activation.py  its place in the fused stack
"""
