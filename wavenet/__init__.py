"""WaveNet in PyTorch: a model of raw audio, one sample given all samples before it.

`import wavenet` costs torch and safetensors. Recipes, data and training live in extras; see README.
"""

from wavenet.checkpoint import load, save
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.distributions import Categorical, Draw
from wavenet.model import WaveNet, WaveNetState
from wavenet.sampling import make_sampler

__version__ = "0.1.0"

__all__ = [
    "AudioConfig",
    "Categorical",
    "Draw",
    "WaveNet",
    "WaveNetConfig",
    "WaveNetState",
    "load",
    "make_sampler",
    "save",
]
