"""The step of a whole model as tensor operations of fixed shapes, a CUDA graph where there is CUDA.

Every operation of a sample reads and writes the same tensors, on one device, and asks it nothing.
"""

from wavenet.sampling.graph.graph_sampler import GraphSampler as GraphSampler
