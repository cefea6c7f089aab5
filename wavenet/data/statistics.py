"""Statistics of the clips of a prepared folder that become part of a model's audio config.

They are the mean and standard deviation of each mel band (`with_mel_statistics`) or channel of
frames in files (`with_frame_statistics`), and the linear predictor of the noise shaping filter
(`with_predictor`).
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.config import AudioConfig, FilterConfig, FramesConfig, MelConfig
from wavenet.data.clip_frames import read_clip_frames
from wavenet.data.dataset import read_clip
from wavenet.data.manifest import Clip, digests_of
from wavenet.features.filters import ORDER, SignalFilter, linear_predictor
from wavenet.features.mel import LogMel
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError, DataError, printable
from wavenet.utils.files import write_text

LEAST_STD = 1e-3  # of a band that never changes
QUIET_PEAK = 0.05  # under it, mu-law spends most of its levels on silence


def with_mel_statistics(folder: Path, clips: Sequence[Clip], mel: MelConfig) -> MelConfig:
    """Return the convention with each band's mean and standard deviation over some clips.

    They are measured once and kept in the prepared folder, under a name that changes with the
    convention and the clips.

    Args:
        folder: The prepared folder.
        clips: From its manifest.
        mel: The convention; its own mean and std are ignored.
    """
    plain = dataclasses.replace(mel, mean=(0.0,), std=(1.0,))
    digests = np.sort(digests_of(clips).view("S32"), axis=0).tobytes()
    config = json.dumps(to_dict(plain), sort_keys=True).encode()
    key = hashlib.sha256(config + digests).hexdigest()[:16]
    path = folder / f"mel-{key}.json"
    if not path.is_file():
        mean, std = _measure_mel(folder, clips, plain)
        write_text(path, json.dumps({"mean": mean, "std": std}) + "\n")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        own = {"mean": found["mean"], "std": found["std"]}
        return from_dict(MelConfig, {**to_dict(plain), **own})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{printable(path)} does not hold the mel statistics: remove it, and they are measured "
            "again"
        ) from error


def _measure_mel(
    folder: Path, clips: Sequence[Clip], mel: MelConfig
) -> tuple[list[float], list[float]]:
    layer, count = LogMel(mel), 0
    total, squares = (torch.zeros(mel.n_mels, dtype=torch.float64) for _ in range(2))
    for clip in clips:
        frames = layer(torch.from_numpy(read_clip(folder, clip))[None])[0].double()
        total += frames.sum(dim=1)
        squares += frames.square().sum(dim=1)
        count += frames.shape[1]
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=LEAST_STD**2).sqrt()
    return [round(float(x), 6) for x in mean], [round(float(x), 6) for x in std]


def with_frame_statistics(
    folder: Path, clips: Sequence[Clip], frames: FramesConfig
) -> FramesConfig:
    """Return frames with each channel's mean and standard deviation over some clips.

    A channel that is constant keeps a deviation of 1: another value would be blown up.

    Args:
        folder: The prepared folder.
        clips: From its manifest.
        frames: Their shape; their own mean and std are ignored.
    """
    plain = dataclasses.replace(frames, mean=(0.0,), std=(1.0,))
    total, squares = (np.zeros(frames.channels) for _ in range(2))
    count = 0
    for clip in clips:
        own = read_clip_frames(folder, clip, plain).astype(np.float64)
        total += own.sum(axis=1)
        squares += np.square(own).sum(axis=1)
        count += own.shape[1]
    mean = total / count
    std = np.sqrt(np.maximum(squares / count - np.square(mean), 0))
    std[std < LEAST_STD * np.maximum(np.abs(mean), 1e-3)] = 1.0
    rounded = (tuple(float(f"{value:.7g}") for value in values) for values in (mean, std))
    return dataclasses.replace(plain, mean=next(rounded), std=next(rounded))


def with_predictor(folder: Path, clips: Sequence[Clip], audio: AudioConfig) -> FilterConfig:
    """Return the filter with a predictor, after checking the peak of all clips.

    The predictor is that of the training clips, unless the filter has one.

    Args:
        folder: The prepared folder.
        clips: All of its manifest.
        audio: The filter, and the sample rate.

    Raises:
        ConfigError: The filter brings samples past 1.0, or leaves them very quiet.
    """
    config = audio.filter
    if config.noise_shaping and not config.predictor:
        train = [clip for clip in clips if clip.split == "train"]
        config = dataclasses.replace(config, predictor=_predictor(folder, train, audio))
    if config == FilterConfig():
        return config
    filtered = _filtered(folder, clips, config, audio.sample_rate)
    peak = max((float(signal.abs().max()) for signal in filtered), default=0.0)
    if not QUIET_PEAK < peak <= 1:
        found = "past 1.0" if peak > 1 else "lost in the rounding"
        best = float(f"{0.95 * config.gain / peak:.3g}") if peak else 1.0
        raise ConfigError(
            f"audio.filter brings the audio to a peak of {peak:.3g}, {found}: set "
            f"audio.filter.gain to {best:g}, from {config.gain:g}"
        )
    return config


def _predictor(folder: Path, clips: Sequence[Clip], audio: AudioConfig) -> tuple[float, ...]:
    """Return the linear predictor of the clips after the other steps of the filter."""
    others = dataclasses.replace(audio.filter, noise_shaping=0.0)
    total = torch.zeros(ORDER + 1, dtype=torch.float64)
    for filtered in _filtered(folder, clips, others, audio.sample_rate):
        signal = F.pad(filtered.double(), (0, ORDER))
        power = torch.fft.rfft(signal, 2 * len(signal)).abs().square()
        total += torch.fft.irfft(power)[: ORDER + 1]
    return linear_predictor(total)


def _filtered(
    folder: Path, clips: Sequence[Clip], config: FilterConfig, sample_rate: int
) -> Iterator[Tensor]:
    signal_filter = SignalFilter(config, sample_rate)
    return (signal_filter.apply(torch.from_numpy(read_clip(folder, clip))) for clip in clips)
