"""What a sample is drawn from, given the parameters that the network puts out for it.

- `Categorical`: softmax over mu-law classes (WaveNet, section 2.2).
- `LogisticMixture`: discretised mixture of logistics, 16 bit (PixelCNN++; Parallel WaveNet).
- `GaussianMixture`: discretised Gaussians, 16 bit; of one component it is ClariNet's.

All are probabilities of codes, integrated over the codes' bins where the density is continuous: so
bits per sample compare, between heads of 16 bit exactly.
"""

from wavenet.distributions.categorical import Categorical
from wavenet.distributions.distribution import Distribution, SamplingConfig
from wavenet.distributions.mixture import GaussianMixture, LogisticMixture, Mixture

__all__ = [
    "Categorical",
    "Distribution",
    "GaussianMixture",
    "LogisticMixture",
    "Mixture",
    "SamplingConfig",
]
