"""Which samples are voiced, for a temperature of their own.

A linear predictor explains most of a vowel, and little of a fricative or of silence. So its
coefficients tell where a mel spectrogram is voiced.
"""

from torch import Tensor

from wavenet.distributions import SamplingConfig
from wavenet.linear_predictor import prediction_gain
from wavenet.model import WaveNet
from wavenet.sampling.conditioning import LocalConditioning
from wavenet.utils.errors import ConfigError

VOICED_GAIN_DB = 12.0  # by which the residual of a voiced sound is weaker


def check_voicing(model: WaveNet, sampling: SamplingConfig) -> None:
    """Raise a `ConfigError` for a temperature of voiced samples if a model does not know them."""
    if sampling.voiced_temperature is not None and model.mel_predictor is None:
        raise ConfigError(
            "voiced_temperature requires a model with a linear predictor from its mel "
            "spectrogram, which tells what is voiced: this one has none, use temperature"
        )


def voiced_subframes(given: LocalConditioning) -> Tensor:
    """Return which sub-frames of each stream are voiced, `(streams, N)` bool."""
    assert given.coefficients is not None
    taps = given.coefficients[..., :-1]
    return (prediction_gain(taps.flatten(0, 1)) > VOICED_GAIN_DB).view(taps.shape[:2])
