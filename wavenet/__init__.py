"""WaveNet in PyTorch: a model of raw audio, one sample given all samples before it.

`wavenet.modules` costs torch alone; what is named here is loaded when it is first used. Recipes,
data and training live in extras; see README.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavenet.checkpoint import load, save
    from wavenet.config import (
        AudioConfig,
        F0Config,
        FilterConfig,
        LocalConfig,
        MelConfig,
        ScoreConfig,
        WaveNetConfig,
    )
    from wavenet.distributions import Categorical, GaussianMixture, LogisticMixture, SamplingConfig
    from wavenet.mel_presets import MEL_PRESETS
    from wavenet.model import WaveNet, WaveNetState
    from wavenet.sampling import make_sampler

__version__ = "0.1.0"

__all__ = [
    "MEL_PRESETS",
    "AudioConfig",
    "Categorical",
    "F0Config",
    "FilterConfig",
    "GaussianMixture",
    "LocalConfig",
    "LogisticMixture",
    "MelConfig",
    "SamplingConfig",
    "ScoreConfig",
    "WaveNet",
    "WaveNetConfig",
    "WaveNetState",
    "load",
    "make_sampler",
    "save",
]

_HOMES = {
    "MEL_PRESETS": "mel_presets",
    "AudioConfig": "config",
    "Categorical": "distributions",
    "SamplingConfig": "distributions",
    "GaussianMixture": "distributions",
    "LocalConfig": "config",
    "LogisticMixture": "distributions",
    "MelConfig": "config",
    "ScoreConfig": "config",
    "F0Config": "config",
    "FilterConfig": "config",
    "WaveNet": "model",
    "WaveNetConfig": "config",
    "WaveNetState": "model",
    "load": "checkpoint",
    "make_sampler": "sampling",
    "save": "checkpoint",
}


def __getattr__(name: str) -> Any:
    """Load what `__all__` names from the file that holds it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"wavenet.{_HOMES[name]}"), name)
