"""The uniform noise that samples are drawn with, as a pure function of seed and sample number.

A counter-based generator (Philox) gives the noise of any section of any item directly. So a draw
depends on item and sample number only: not on batch size, chunk size or interruptions.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

NUMBERS_PER_COUNT = 4  # numbers that Philox returns per value of its counter


def uniforms(seeds: Sequence[int], start: int, length: int, num_noise: int = 1) -> Tensor:
    """Return the noise of samples `start` to `start + length` of each item.

    Args:
        seeds: One per item, each from 0 to 2**64 - 1.
        start: First sample.
        length: Number of samples.
        num_noise: Uniforms that one sample uses, `K`.

    Returns:
        Multiples of 2**-24 in [0, 1), float32 `(B, length, K)`.
    """
    first, count = start * num_noise, length * num_noise
    skipped = first % NUMBERS_PER_COUNT
    noise = np.empty((len(seeds), count), np.float32)
    for item, seed in enumerate(seeds):
        generator = np.random.Philox(key=seed, counter=first // NUMBERS_PER_COUNT)
        words = generator.random_raw(skipped + count)[skipped:]
        noise[item] = (words >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    return torch.from_numpy(noise.reshape(len(seeds), length, num_noise))
