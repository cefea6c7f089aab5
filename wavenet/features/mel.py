"""Log-mel spectrograms on any device, from whole signals and from excerpts, with the same numbers.

What a frame is, `wavenet.mel_presets.MelConfig` says. A whole signal is padded at its ends; an
excerpt comes with its true surroundings instead, so that its frames are the whole signal's.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.data.clips import read_clip
from wavenet.data.manifest import Clip, digests_of
from wavenet.mel_presets import MelConfig
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import DataError, printable, require
from wavenet.utils.files import write_text

LEAST_STD = 1e-3  # of a band that never changes


class LogMel(nn.Module):
    """Waveforms to frames.

    Args:
        config: What a frame is.

    Attributes:
        margin: Samples on either side of an excerpt that its frames need.

    Shape:
        - Input: `(B, T)`, samples in [-1, 1]
        - Output: `(B, bins, ceil(T / hop_length))`; frame `f` is centred on sample `f * hop_length`
    """

    window: Tensor
    bank: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, config: MelConfig) -> None:
        super().__init__()
        functional: Any = require("torchaudio", "train").functional
        self.config = config
        self.margin = config.n_fft // 2
        bank = functional.melscale_fbanks(
            config.n_fft // 2 + 1,
            config.f_min,
            config.f_max,
            config.n_mels,
            config.sample_rate,
            norm=None if config.norm == "none" else config.norm,
            mel_scale=config.mel_scale,
        )
        window = torch.hann_window(config.win_length)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("bank", bank.T.contiguous(), persistent=False)
        for name in ("mean", "std"):
            values = torch.tensor(getattr(config, name)).unsqueeze(1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        length, margin = waveform.shape[1], self.margin
        frames = -(-length // self.config.hop_length)
        covered = frames * self.config.hop_length
        reflect = self.config.pad_mode == "reflect" and length > margin
        mode = "reflect" if reflect else "constant"
        wide = F.pad(waveform.unsqueeze(1), (margin, margin), mode=mode).squeeze(1)
        return self.valid(F.pad(wide, (0, covered - length)))

    def valid(self, wide: Tensor) -> Tensor:
        """Return the frames of an excerpt, given what lies around it.

        Shape:
            - Input: `(B, margin + F * hop_length + margin)`
            - Output: `(B, bins, F)`
        """
        config = self.config
        count = (wide.shape[1] - 2 * self.margin) // config.hop_length
        with torch.autocast(wide.device.type, enabled=False):
            spectrum = torch.stft(
                wide.float(),
                config.n_fft,
                config.hop_length,
                config.win_length,
                self.window,
                center=False,
                return_complex=True,
            )[..., :count]
            energy = spectrum.real.square() + spectrum.imag.square()
            mel = self.bank @ (energy if config.power == 2 else energy.sqrt())
            value = mel.clamp(min=config.log_floor)
            if config.log_base == "natural":
                value = value.log()
            else:
                value = value.log10()
                if config.log_base == "decibel":
                    value = value * (20 / config.power)
            value = (value - self.mean) / self.std
        return value.clamp(0, 1) if config.clamp else value


def with_statistics(folder: Path, clips: Sequence[Clip], mel: MelConfig) -> MelConfig:
    """Return the convention with each band's mean and standard deviation over some clips.

    They are measured once and kept in the prepared folder, under a name that changes with the
    convention and the clips.

    Args:
        folder: The prepared folder.
        clips: From its manifest.
        mel: The convention, its own mean and std left out of account.
    """
    plain = dataclasses.replace(mel, mean=(0.0,), std=(1.0,))
    heard = np.sort(digests_of(clips).view("S32"), axis=0).tobytes()
    said = json.dumps(to_dict(plain), sort_keys=True).encode()
    key = hashlib.sha256(said + heard).hexdigest()[:16]
    path = folder / f"mel-{key}.json"
    if not path.is_file():
        mean, std = _measured(folder, clips, plain)
        write_text(path, json.dumps({"mean": mean, "std": std}) + "\n")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        own = {"mean": found["mean"], "std": found["std"]}
        return from_dict(MelConfig, {**to_dict(plain), **own})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{printable(path)} does not hold the mel statistics: remove it, and they are measured "
            "anew"
        ) from error


def _measured(
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
