"""Log-mel spectrograms on any device, equal for complete signals and excerpts.

`wavenet.config.MelConfig` defines a frame. A complete signal is padded at its ends; an excerpt
comes with the samples around it instead, so that its frames equal those of the complete signal.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.config import MelConfig
from wavenet.utils.errors import require


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

    def forward(self, waveform: Tensor) -> Tensor:
        length, margin = waveform.shape[1], self.margin
        frames = -(-length // self.config.hop_length)
        covered = frames * self.config.hop_length
        reflect = self.config.pad_mode == "reflect" and length > margin
        mode = "reflect" if reflect else "constant"
        wide = F.pad(waveform.unsqueeze(1), (margin, margin), mode=mode).squeeze(1)
        return self.valid(F.pad(wide, (0, covered - length)))

    def valid(self, wide: Tensor) -> Tensor:
        """Return the frames of an excerpt, given with the samples around it.

        Shape:
            - Input: `(B, margin + F * hop_length + margin)`
            - Output: `(B, n_mels, F)`
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
