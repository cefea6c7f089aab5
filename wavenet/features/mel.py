"""Log-mel spectrograms, of waveforms and as files.

`wavenet.config.MelConfig` defines a frame. A complete signal is padded at its ends; an excerpt
comes with the samples around it instead, so that its frames equal those of the complete signal.

Our file format is a safetensors file: a tensor `mel`, `(n_mels, F)`, and its `MelConfig` as
metadata. A `.npy` array has no metadata, so its preset must be given.
"""

from __future__ import annotations  # help() shows Array by its name

import json
import logging
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.config import MelConfig
from wavenet.features.frame_file import read_npy
from wavenet.mel_scale import find_scale_problem
from wavenet.presets import MEL_PRESETS, mel_mismatch, mel_preset, renormalize
from wavenet.utils.arrays import Array, as_tensor
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError, DataError, printable, require
from wavenet.utils.files import atomic_file
from wavenet.utils.precision import float32_products
from wavenet.utils.safetensors_file import check_safetensors
from wavenet.utils.strict_json import parse_json
from wavenet.waveform import shape_of_waveform

METADATA = "wavenet.mel"
log = logging.getLogger("wavenet")


class LogMel(nn.Module):
    """Waveforms to frames.

    Args:
        config: Parameters of the frames.

    Attributes:
        margin: Samples on either side of a segment that its frames need.

    Shape:
        - Input: `(B, T)`, samples in [-1, 1]
        - Output: `(B, n_mels, ceil(T / hop_length))`; frame `f` is centered on `f * hop_length`
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

    def forward(self, waveform: Array) -> Tensor:
        waveform = as_tensor("waveform", waveform, self)
        (_, length), margin = shape_of_waveform(waveform), self.margin
        frames = -(-length // self.config.hop_length)
        covered = frames * self.config.hop_length
        reflect = self.config.pad_mode == "reflect" and length > margin
        mode = "reflect" if reflect else "constant"
        wide = F.pad(waveform.unsqueeze(1), (margin, margin), mode=mode).squeeze(1)
        return self.valid(F.pad(wide, (0, covered - length)))

    def valid(self, wide: Array) -> Tensor:
        """Return the frames of an excerpt, given with the samples around it.

        Shape:
            - Input: `(B, margin + F * hop_length + margin)`
            - Output: `(B, n_mels, F)`
        """
        config, wide = self.config, as_tensor("wide", wide, self)
        count = (wide.shape[1] - 2 * self.margin) // config.hop_length
        with torch.autocast(wide.device.type, enabled=False), float32_products(wide.device):
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


def write_mel(path: Path, mel: Array, config: MelConfig) -> None:
    """Write a mel spectrogram, `(n_mels, F)`, and its parameters, atomically."""
    frames, metadata = as_tensor("mel", mel, None), {METADATA: json.dumps(to_dict(config))}
    with atomic_file(path) as temporary:
        temporary.write_bytes(serialize({"mel": frames.contiguous()}, metadata))


def read_mel(path: Path, wanted: MelConfig, preset: str | None = None) -> Tensor:
    """Return a mel spectrogram, `(n_mels, F)`, normalized as `wanted` is.

    Args:
        path: A `.safetensors` file that `write_mel` wrote, or a `.npy` array `(n_mels, F)`.
        wanted: The model's parameters.
        preset: Preset of a `.npy` array, one of `MEL_PRESETS`, or `model` for that of the model.

    Raises:
        ConfigError: The preset is unknown or missing.
        DataError: The file holds something else, or has other parameters.
    """
    if path.suffix.lower() == ".npy":
        mel, found = torch.from_numpy(read_npy(path)), _named(path, wanted, preset)
    else:
        mel, found = _ours(path)
    different = mel_mismatch(wanted, found)
    if different is not None:
        raise DataError(
            f"{printable(path)}: {different}; compute it again, or use the recording as input"
        )
    if mel.dim() != 2 or mel.shape[0] != wanted.n_mels:
        turned = "; it looks transposed" if mel.shape[-1:] == (wanted.n_mels,) else ""
        raise DataError(
            f"{printable(path)} has shape {tuple(mel.shape)}, expected ({wanted.n_mels}, F){turned}"
        )
    if not bool(mel.isfinite().all()):
        raise DataError(f"{printable(path)} holds NaN or infinity")
    factors, summands = renormalize(wanted, found)
    return mel * torch.tensor(factors)[:, None] + torch.tensor(summands)[:, None]


def check_scale(mel: Tensor, config: MelConfig, where: str) -> None:
    """Warn of a mel spectrogram in another scale than the model's, and refuse an absurd one.

    Args:
        mel: Normalized as `config` is, `(n_mels, F)`.
        config: The model's convention, with the statistics of its training audio.
        where: Name of the file.

    Raises:
        DataError: The values are certainly of another scale, see `find_scale_problem`.
    """
    problem = find_scale_problem(mel, config)
    if problem is None:
        return
    text = f"{where}: {problem.text}, or use the recording as input"
    if problem.is_certain:
        raise DataError(text)
    log.warning("%s", text)


def _named(path: Path, wanted: MelConfig, preset: str | None) -> MelConfig:
    if preset == "model":
        return wanted
    if preset is None:
        raise ConfigError(
            f"{printable(path)} has no mel parameters: add mel_preset=NAME, one of "
            f"{', '.join(sorted(MEL_PRESETS))}, or model for the model's own "
            "with the same normalization"
        )
    return mel_preset(preset, "model")


def _ours(path: Path) -> tuple[Tensor, MelConfig]:
    try:
        check_safetensors(path)
        with safe_open(path, framework="pt") as file:
            plain = parse_json((file.metadata() or {})[METADATA])
            mel: Tensor = file.get_tensor("mel")
        return mel.float(), from_dict(MelConfig, plain, "its parameters")
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise DataError(
            f"{printable(path)} is not a mel file of wavenet: {printable(error)}"
        ) from None
