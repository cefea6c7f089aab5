"""WaveNet in PyTorch: a model of raw audio that predicts each sample from all samples before it.

Example:
    >>> import torch, wavenet
    >>> model = wavenet.WaveNet(wavenet.WaveNetConfig(dilations=(1, 2, 4)))
    >>> loss = model.nll(torch.zeros(1, 100)).mean()  # what training minimizes
    >>> sampler = wavenet.make_sampler(model)  # the fastest one here
    >>> signal = sampler.generate(160, seed=1)  # (1, 160), samples in [-1, 1]

`load` returns a trained model, and `models` lists those that ship with this package.

`wavenet.modules` needs only torch. The names below are loaded on first use. Recipes, data and
training need optional dependencies, see README.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for type checkers: `X as X` exports
    from wavenet.checkpoint import TrainingInfo as TrainingInfo
    from wavenet.checkpoint import save as save
    from wavenet.config import AudioConfig as AudioConfig
    from wavenet.config import F0Config as F0Config
    from wavenet.config import FilterConfig as FilterConfig
    from wavenet.config import FramesConfig as FramesConfig
    from wavenet.config import LocalConfig as LocalConfig
    from wavenet.config import MelConfig as MelConfig
    from wavenet.config import PredictorConfig as PredictorConfig
    from wavenet.config import ScoreConfig as ScoreConfig
    from wavenet.config import WaveNetConfig as WaveNetConfig
    from wavenet.distributions import Categorical as Categorical
    from wavenet.distributions import Distribution as Distribution
    from wavenet.distributions import GaussianMixture as GaussianMixture
    from wavenet.distributions import LogisticMixture as LogisticMixture
    from wavenet.distributions import SamplingConfig as SamplingConfig
    from wavenet.features.mel_consistency import MelConsistency as MelConsistency
    from wavenet.model import WaveNet as WaveNet
    from wavenet.model import WaveNetState as WaveNetState
    from wavenet.presets import MEL_PRESETS as MEL_PRESETS
    from wavenet.pretrained import ModelInfo as ModelInfo
    from wavenet.pretrained import load as load
    from wavenet.pretrained import models as models
    from wavenet.sampling import Sampler as Sampler
    from wavenet.sampling import make_sampler as make_sampler

__version__ = "0.1.0"

_MODULES = {
    "checkpoint": "TrainingInfo save",
    "config": "AudioConfig F0Config FilterConfig FramesConfig LocalConfig MelConfig "
    "PredictorConfig ScoreConfig WaveNetConfig",
    "distributions": "Categorical Distribution GaussianMixture LogisticMixture SamplingConfig",
    "features.mel_consistency": "MelConsistency",
    "model": "WaveNet WaveNetState",
    "presets": "MEL_PRESETS",
    "pretrained": "ModelInfo load models",
    "sampling": "Sampler make_sampler",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = sorted(_MODULE_OF)


def __getattr__(name: str) -> Any:
    """Load a name of `__all__` from the module that defines it."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"wavenet.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
