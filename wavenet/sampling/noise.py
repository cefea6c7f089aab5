"""The uniforms that samples are drawn with, as a pure function of seed and sample number.

A counter-based generator (Philox) gives the noise of any stretch of any item directly. So item and
sample alone decide what is drawn: batch size, chunk size and where generation was interrupted
cannot matter.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

WORDS = 4  # numbers that Philox makes for one value of its counter


def uniforms(seeds: Sequence[int], start: int, length: int, num_noise: int = 1) -> Tensor:
    """Return the noise of samples `start` to `start + length` of each item.

    Args:
        seeds: One an item, each from 0 to 2**64 - 1.
        start: First sample.
        length: Number of samples.
        num_noise: Uniforms that one sample takes, `K`.

    Returns:
        Multiples of 2**-24 in [0, 1), float32 `(B, length, K)`.
    """
    first, count = start * num_noise, length * num_noise
    skipped = first % WORDS
    noise = np.empty((len(seeds), count), np.float32)
    for item, seed in enumerate(seeds):
        generator = np.random.Philox(key=seed, counter=first // WORDS)
        words = generator.random_raw(skipped + count)[skipped:]
        noise[item] = (words >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
    return torch.from_numpy(noise.reshape(len(seeds), length, num_noise))
