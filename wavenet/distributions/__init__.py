"""What a sample is drawn from, given the parameters that the network outputs for it.

- `Categorical`: softmax over mu-law or linear classes (WaveNet, section 2.2).
- `LogisticMixture`: discretized mixture of logistics, 16 bit (PixelCNN++; Parallel WaveNet).
- `GaussianMixture`: discretized Gaussians, 16 bit; with one component it is ClariNet's.

All give probabilities of codes; continuous densities are integrated over the codes' bins. So bits
per sample can be compared between distributions with the same codes.

A new one is a class with `@register`, as in `examples/custom_distribution.py`. Everything else asks
the class: which compiled draw computes it, how training starts, what the model card says.
"""

from wavenet.distributions.categorical import Categorical
from wavenet.distributions.distribution import (
    DISTRIBUTIONS,
    Distribution,
    SamplingConfig,
    build_distribution,
    register,
)
from wavenet.distributions.mixture import GaussianMixture, LogisticMixture, Mixture

__all__ = [
    "DISTRIBUTIONS",
    "Categorical",
    "Distribution",
    "GaussianMixture",
    "LogisticMixture",
    "Mixture",
    "SamplingConfig",
    "build_distribution",
    "register",
]
