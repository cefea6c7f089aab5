"""The config of a run that is started with `init=MODEL`.

The shape of the model and the meaning of its signal come from MODEL, data and optimizer from the
recipe; the command line comes before both. What it changes must leave the weights their meaning:
another sample rate, filter, mel convention, dilation and the like is refused. Free are dropout,
weight norm, and the level at which recordings reach the model (`audio.filter.gain`); mean and std
of a mel convention stay the model's.
"""

import copy
import dataclasses
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wavenet
from wavenet.checkpoint import Checkpoint
from wavenet.config import AudioConfig, WaveNetConfig
from wavenet.derive import derive
from wavenet.model import meta_model
from wavenet.model_card import TrainingInfo, lineage_from
from wavenet.presets import mel_mismatch
from wavenet.training.init_weights import SPEAKERS, Parts, is_ignored
from wavenet.training.options import RunConfig
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError, printable

TRAINING_KEYS = ("dropout", "conditioning_dropout")  # of the model; no output depends on them
SHAPE_KEYS = (  # models whose tensors have the same shapes agree in them
    *("bias", "gate_channels", "global_channels", "global_in_channels", "head_channels"),
    *("input_kernel_size", "input_type", "kernel_size", "num_mixtures", "num_speakers"),
    *("residual_channels", "skip_channels", "weight_norm"),
)
OWNERS = {  # of other keys: the modules whose weights depend on them
    "companding": ("input", "head.output"),
    "dilations": ("stack",),
    "local": ("local_conditioner",),
    "min_log_scale": ("head.output",),
    "output_distribution": ("head.output",),
    "quantization_channels": ("input", "head.output"),
    "residual_scale": ("stack",),
    "skip_scale": ("stack",),
}
SIGNAL_KEYS = ("sample_rate", "filter")  # of audio; the others are the speakers and the features
log = logging.getLogger("wavenet")


def config_from_model(config: RunConfig, overridden: Sequence[str]) -> RunConfig:
    """Return a run's config with model and audio of `config.init`; log what differs.

    Args:
        config: From recipe and command line.
        overridden: Keys given on the command line, such as `model.dropout` or `audio/mel`.

    Raises:
        CheckpointError: `config.init` is no model.
        ConfigError: Something that the weights depend on is to change.
    """
    assert config.init is not None
    base = wavenet.load(config.init)
    keys = [re.sub(r"(\.\d+)+$", "", key.replace("/", ".")) for key in overridden]
    _check_audio(config, base, keys)
    plain = _merge(config, base, keys)
    audio = from_dict(AudioConfig, plain["audio"], "audio")
    model = from_dict(WaveNetConfig, plain["model"], "model")
    _check_model(config, model, base)
    data = config.data
    if "data.sample_rate" not in keys:
        data = dataclasses.replace(data, sample_rate=audio.sample_rate)
    log.info("init: weights of %s, %s", printable(config.init), _describe(base))
    _log_differences("audio", plain["audio"], to_dict(base.audio), to_dict(config.audio))
    _log_differences("model", plain["model"], to_dict(base.model.config), to_dict(config.model))
    if audio.mel is not None and audio.mel == base.audio.mel and not audio.mel.clamp:
        data = dataclasses.replace(data, normalize_mel=False)
        log.info("init: mean and std of the mel bands are those of the model, not of these clips")
    if audio.frames is not None and audio.frames == base.audio.frames:
        data = dataclasses.replace(data, normalize_frames=False)
    folder = Path(config.init)
    init = str(folder.resolve()) if folder.is_dir() else config.init
    config = dataclasses.replace(config, audio=audio, model=model, data=data, init=init)
    return _with_licenses(config, base.training)


def base_model(config: RunConfig) -> str | None:
    """Return what a run's model is fine-tuned from, for its card: a name, or a folder in words."""
    if config.init is None or not Path(config.init).is_absolute():
        return config.init
    parts = Path(config.init).parts[-3:]  # no more of a path belongs on a card
    return f"the model directory {Path(*parts)}"


def _with_licenses(config: RunConfig, base: TrainingInfo) -> RunConfig:
    """Return the config with what the card says of the model; its license, if none is given."""
    lineage = lineage_from(base_model(config) or "", base)
    if base.license or base.data_license:
        log.info(
            "init: license of the model: %s, of its data: %s; the card states both",
            *(printable(text or "not given") for text in (base.license, base.data_license)),
        )
    if config.license and base.license and config.license != base.license:
        log.warning(
            "warning: license=%s: the model's own, %s, still applies to what is made from it",
            *(printable(config.license), printable(base.license)),
        )
    return dataclasses.replace(config, license=config.license or base.license, lineage=lineage)


def _check_audio(config: RunConfig, base: Checkpoint, keys: Sequence[str]) -> None:
    """Raise a `ConfigError` if the command line changes what the signal or its frames mean."""
    ours, theirs = to_dict(config.audio), to_dict(base.audio)
    for key in keys:
        section, *path = key.split(".")
        if section != "audio" or not path or _is_free(path, config):
            continue
        here, there = _get(ours, path), _get(theirs, path)
        if path == ["mel"] and config.audio.mel is not None and base.audio.mel is not None:
            difference = mel_mismatch(base.audio.mel, config.audio.mel)
            if difference is None:  # mean and std are the model's
                continue
            found = f"{key} is {difference}"
        elif here == there:
            continue
        else:
            found = f"{key} is {_shown(there)} in it and {_shown(here)} on the command line"
        hint = f"leave {key} out"
        if path[0] not in SIGNAL_KEYS:
            hint += (
                ", or init_ignore=[local_conditioner] starts what depends on it from new weights"
            )
        raise ConfigError(f"init={printable(config.init)}: {found}: {hint}")


def _is_free(path: Sequence[str], config: RunConfig) -> bool:
    """Return whether a key of `audio` may differ from the model's."""
    if path[0] in SIGNAL_KEYS:
        return path == ["filter", "gain"]
    return path[0] == "speaker_names" or is_ignored("local_conditioner", config.init_ignore)


def _merge(config: RunConfig, base: Checkpoint, keys: Sequence[str]) -> dict[str, Any]:
    """Return `audio` and `model` as plain data: the model's with what the command line changes."""
    ours = {"audio": to_dict(config.audio), "model": to_dict(config.model)}
    plain = {"audio": to_dict(base.audio), "model": to_dict(base.model.config)}
    if "model" in keys:
        plain["model"] = copy.deepcopy(ours["model"])
    for key in keys:
        section, *path = key.split(".")
        if path and (section == "model" or (section == "audio" and _is_free(path, config))):
            _put(plain[section], ours[section], path)
    audio, model = plain["audio"], plain["model"]

    names = "audio.speaker_names" in keys
    if names or not config.data.use_speakers:
        audio["speaker_names"] = audio["speaker_names"] if names else []
        model["num_speakers"] = len(audio["speaker_names"])
    else:  # their number comes from the data
        model["num_speakers"] = max(base.model.config.num_speakers, 1)

    features = derive({"audio": audio})["audio"]
    frames = from_dict(AudioConfig, features, "audio")
    local = model["local"]
    if not frames.features:
        model["local"] = ours["model"]["local"] if "model.local" in keys else None
    elif local is None:
        model["local"] = ours["model"]["local"]
    elif (frames.channels, frames.hop_length) != (base.audio.channels, base.audio.hop_length):
        for name in ("in_channels", "upsample_scales"):
            if not {"model", "model.local", f"model.local.{name}"} & {*keys}:
                local[name] = None  # follows from audio
    return derive(plain)


def _check_model(config: RunConfig, model: WaveNetConfig, base: Checkpoint) -> None:
    """Raise a `ConfigError` unless the weights fit and keep their meaning."""
    name, old = printable(config.init), base.model.config
    parts = Parts.between(meta_model(model), base.model, config.init_ignore)
    if SPEAKERS not in parts.ignored and model.num_speakers and not old.num_speakers:
        raise ConfigError(
            f"init={name} has no speakers, and this run has: leave them out with "
            "data.use_speakers=false, or init_ignore=[global_conditioner] adds them as new weights"
        )
    if SPEAKERS not in parts.ignored and old.num_speakers and not model.num_speakers:
        raise ConfigError(
            f"init={name} has {old.num_speakers} speakers, and this run has none: add "
            "data.use_speakers=true, or init_ignore=[global_conditioner] removes them"
        )
    parts.check_shapes(config.init or "")
    here, there = _flat(to_dict(model)), _flat(to_dict(old))
    for key in (key for key in here if key in there and here[key] != there[key]):
        field = key.partition(".")[0]
        owners = OWNERS.get(field, ())
        known = field in (*TRAINING_KEYS, *SHAPE_KEYS)
        if known or (owners and all(map(parts.are_ignored, owners))):
            continue
        modules = ",".join(dict.fromkeys(owner.partition(".")[0] for owner in owners))
        way_out = f", or init_ignore=[{modules}] starts those from new weights" if owners else ""
        raise ConfigError(
            f"init={name}: model.{key} is {_shown(there[key])} in it and {_shown(here[key])} on "
            f"the command line, and its weights depend on it: leave it out{way_out}"
        )


def _log_differences(
    section: str, final: Mapping[str, Any], base: Mapping[str, Any], recipe: Mapping[str, Any]
) -> None:
    """Log where the model's config comes before the recipe's, and what the command line changes."""
    kept = []
    for key in (key for key in final if key not in ("speaker_names", "num_speakers")):
        simple = not any(isinstance(one[key], dict | list) for one in (base, recipe))
        if final[key] == base[key] and final[key] != recipe[key]:
            values = f"={base[key]} (recipe: {recipe[key]})" if simple else ""
            kept.append(f"{section}.{key}{values}")
    if kept:
        log.info("init: of the model, not of the recipe: %s", ", ".join(kept))
    here, there = _flat(final), _flat(base)
    for key in (key for key in here if key in there and here[key] != there[key]):
        if key not in ("speaker_names", "num_speakers"):
            values = f"{_shown(here[key])}, {_shown(there[key])} in the model"
            log.info("init: %s.%s is %s", section, key, values)


def _describe(base: Checkpoint) -> str:
    info = base.training
    return f"trained on {printable(info.data or 'unknown data')} for {info.steps:,} steps"


def _get(plain: Mapping[str, Any], path: Sequence[str]) -> Any:
    """Return the value at a path, or that of its longest part that is no mapping."""
    value: Any = plain
    for name in path:
        if not isinstance(value, Mapping):
            break
        value = value[name]
    return value


def _put(plain: dict[str, Any], source: Mapping[str, Any], path: Sequence[str]) -> None:
    """Copy the value at a path from `source`; all of a mapping that only one of the two has."""
    name, *rest = path
    if rest and isinstance(plain[name], dict) and isinstance(source[name], Mapping):
        _put(plain[name], source[name], rest)
    else:
        plain[name] = copy.deepcopy(source[name])


def _flat(plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{inner}": entry for inner, entry in _flat(value).items()})
        else:
            flat[key] = value
    return flat


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return printable(", ".join(f"{key}={entry}" for key, entry in value.items()))
    return "none" if value is None else printable(value)
