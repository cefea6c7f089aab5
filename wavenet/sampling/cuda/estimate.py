"""From how many streams on the kernel should be faster than a CUDA graph.

These are estimates for a large GPU, made without one; docs/explanation/gpu.md has the arithmetic.
"""

from wavenet.config import WaveNetConfig

MIN_STREAMS, MAX_STREAMS = 16, 2**20  # a whole warp; never
SECONDS_PER_WEIGHT = {"float32": 300e-12, "bfloat16": 120e-12}  # of a sample of one warp
WARPS_AT_ONCE = 512  # four on each of 128 multiprocessors
CACHE_BYTES = 32e6  # for weights: every warp reads all of them at every sample
SECONDS_PER_OPERATION = 1.6e-6  # of a captured graph, at least
OPERATIONS_PER_BLOCK = 7
PRODUCTS_PER_SECOND = 6e12  # of its matrix products, in float32


def min_streams(config: WaveNetConfig, weight_dtype: str) -> int:
    """Return the number of streams from which `cuda` should pay, a power of two."""
    streams, weights = MIN_STREAMS, weights_per_sample(config)
    if weights * (2 if weight_dtype == "bfloat16" else 4) > CACHE_BYTES:
        return MAX_STREAMS
    operations = OPERATIONS_PER_BLOCK * len(config.dilations) * SECONDS_PER_OPERATION
    while streams < MAX_STREAMS:
        rounds = max(1.0, streams / 16 / WARPS_AT_ONCE)
        kernel = rounds * weights * SECONDS_PER_WEIGHT[weight_dtype]
        if kernel < operations + streams * weights / PRODUCTS_PER_SECOND:
            break
        streams *= 2
    return streams


def weights_per_sample(config: WaveNetConfig) -> int:
    """Return the number of weights that a sample is multiplied with."""
    gated, width = config.gate_channels // 2, config.residual_channels
    gates = 2 * gated * (config.kernel_size * width + config.conditioning_channels)
    block = gates + gated * (width + config.skip_channels)
    params = 3 * config.num_mixtures
    if config.output_distribution == "categorical":
        params = config.quantization_channels
    head = config.head_channels * (config.skip_channels + params)
    return len(config.dilations) * block + head
