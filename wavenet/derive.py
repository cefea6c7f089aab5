"""Keys of a config that follow from others: sample rates, local conditioning, number of speakers.

Also the temperature of an evaluation, which suits the model.

A config in which both are given and disagree is refused by the dataclasses.
"""

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

from wavenet.config import AudioConfig
from wavenet.presets import MEL_PRESETS, mel_preset
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError

MAX_UPSAMPLE_FACTOR = 16
VOCODER_TEMPERATURE = 0.85  # between the best of 8 and of 16 kHz, see docs/models/trials.md


def derive(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a command's config, plain data, with null keys that follow from others filled in.

    Args:
        config: Mappings `audio`, `model`, `data` and `evaluation`, as far as the command has them.

    Raises:
        ConfigError: `audio` is wrong.
    """
    plain = copy.deepcopy(dict(config))
    audio, model, data = (plain.get(name) for name in ("audio", "model", "data"))
    evaluation = plain.get("evaluation")
    if isinstance(evaluation, dict) and evaluation.get("temperature") is None:
        evaluation["temperature"] = VOCODER_TEMPERATURE if _has_mel_predictor(model) else 1.0
    if not isinstance(audio, dict):
        return plain
    _derive_audio(audio)
    if isinstance(data, dict) and data.get("sample_rate") is None:
        data["sample_rate"] = audio["sample_rate"]
    if isinstance(model, dict):
        _derive_model(model, from_dict(AudioConfig, audio, "audio"))
    return plain


def _derive_audio(audio: dict[str, Any]) -> None:
    if isinstance(audio.get("mel"), str):
        audio["mel"] = to_dict(mel_preset(audio["mel"]))
    names = ("mel", "f0", "score", "frames")
    features = [audio[name] for name in names if isinstance(audio.get(name), dict)]
    rates = [one.get("sample_rate") for one in (audio, *features)]
    hops = [one.get("hop_length") for one in features]
    audio["sample_rate"] = _first([*rates, AudioConfig.sample_rate])
    for one in features:
        follows = {"sample_rate": audio["sample_rate"], "hop_length": _first(hops)}
        given = {key: value for key, value in one.items() if value is not None}
        one.clear()
        one.update({key: value for key, value in follows.items() if value is not None}, **given)
    if isinstance(audio.get("mel"), dict):
        _check_rate_of_mel(audio["mel"].get("sample_rate"), audio["sample_rate"])


def _check_rate_of_mel(found: Any, wanted: Any) -> None:
    """Raise a `ConfigError` with the presets of the rate that is wanted, if there are any."""
    presets = [name for name, mel in MEL_PRESETS.items() if mel.sample_rate == wanted]
    if found != wanted and presets:
        raise ConfigError(
            f"audio.mel.sample_rate must be {wanted}, as audio.sample_rate, got {found}: choose "
            f"audio.mel={' or audio.mel='.join(presets)}"
        )


def _first(values: list[Any]) -> Any:
    return next((value for value in values if value is not None), None)


def _has_mel_predictor(model: Any) -> bool:
    """Return whether a model, plain data, has a linear predictor from the mel."""
    predictor = model.get("predictor") if isinstance(model, dict) else None
    return isinstance(predictor, dict) and predictor.get("source") != "past"


def _derive_model(model: dict[str, Any], audio: AudioConfig) -> None:
    if not model.get("num_speakers"):
        model["num_speakers"] = len(audio.speaker_names)
    predictor = model.get("predictor")
    if isinstance(predictor, dict) and predictor.get("mel") is None and _has_mel_predictor(model):
        if audio.mel is None:
            raise ConfigError(
                "model.predictor needs audio.mel, the frames that it is made of; "
                "model.predictor.source=past needs none"
            )
        predictor["mel"] = to_dict(audio.mel)
    local = model.get("local")
    if not isinstance(local, dict):
        return
    given = local.get("in_channels") is not None or local.get("upsample_scales") is not None
    if audio.hop_length is None:
        if not given:
            model["local"] = None
        return
    if local.get("in_channels") is None:
        local["in_channels"] = audio.channels
    if local.get("upsample_scales") is None:
        local["upsample_scales"] = upsample_factors(audio.hop_length)


def upsample_factors(hop_length: int) -> list[int]:
    """Return the fewest factors of a hop length with the least sum, ascending.

    Each is at most 16, or at most the largest prime factor where that is above 16.
    """
    limit = max(MAX_UPSAMPLE_FACTOR, _largest_prime(hop_length))
    found = _factorizations(hop_length, limit)
    return min(found, key=lambda factors: (len(factors), sum(factors)))


def _factorizations(product: int, limit: int, least: int = 2) -> Iterator[list[int]]:
    """Yield every way to write `product` as factors in ascending order, at most `limit` each."""
    if product <= limit:
        yield [product]
    for factor in range(least, min(limit, math.isqrt(product)) + 1):
        if product % factor == 0:
            for rest in _factorizations(product // factor, limit, factor):
                yield [factor, *rest]


def _largest_prime(number: int) -> int:
    for factor in range(2, math.isqrt(number) + 1):
        if number % factor == 0:
            return _largest_prime(number // factor)
    return number
