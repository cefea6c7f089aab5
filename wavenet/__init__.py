"""WaveNet in PyTorch: a model of raw audio that predicts each sample from all samples before it.

`wavenet.modules` needs only torch. The names below are loaded on first use. Recipes, data and
training need optional dependencies, see README.
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
    from wavenet.distributions import (
        Categorical,
        Distribution,
        GaussianMixture,
        LogisticMixture,
        SamplingConfig,
    )
    from wavenet.mel_presets import MEL_PRESETS
    from wavenet.model import WaveNet, WaveNetState
    from wavenet.model_card import TrainingInfo
    from wavenet.sampling import Sampler, make_sampler

__version__ = "0.1.0"

_MODULES = {
    "checkpoint": "load save",
    "config": "AudioConfig F0Config FilterConfig LocalConfig MelConfig ScoreConfig WaveNetConfig",
    "distributions": "Categorical Distribution GaussianMixture LogisticMixture SamplingConfig",
    "mel_presets": "MEL_PRESETS",
    "model": "WaveNet WaveNetState",
    "model_card": "TrainingInfo",
    "sampling": "Sampler make_sampler",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "MEL_PRESETS",
    "AudioConfig",
    "Categorical",
    "Distribution",
    "F0Config",
    "FilterConfig",
    "GaussianMixture",
    "LocalConfig",
    "LogisticMixture",
    "MelConfig",
    "Sampler",
    "SamplingConfig",
    "ScoreConfig",
    "TrainingInfo",
    "WaveNet",
    "WaveNetConfig",
    "WaveNetState",
    "load",
    "make_sampler",
    "save",
]


def __getattr__(name: str) -> Any:
    """Load a name of `__all__` from the module that defines it."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"wavenet.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
