"""Linear prediction of a waveform with coefficients that its mel spectrogram gives.

A mel frame states how strong the bands of a spectrum are. Spread over the bins of the FFT it is a
power spectrum, whose inverse transform is the autocorrelation, whose normal equations give the
coefficients of the best linear predictor and the scale of what it leaves, the residual. An order
that covers a pitch period predicts the pitch too. Between two frames, autocorrelations are
interpolated: any mean of them belongs to a stable filter.

Richardson 1972 and Lucy 1974 for the spectrum;
LPCNet (arXiv:1810.11846) predicts from 18 bands with order 16, and adds to the excitation what is
part of the density here.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.feature_configs import MelConfig, PredictorConfig
from wavenet.linear_predictor import (
    ROUNDING_VARIANCE,
    LinearPredictor,
    levinson,
    rounded_rows,
)
from wavenet.mel_filterbank import mel_filterbank

ITERATIONS = 10  # of the spectrum; 100 gain no more
LAG_WINDOW_HZ = 10.0  # bandwidth by which spectral lines are widened; with 4, noise may run away
WHITE_NOISE = 1e-9  # of the power, added for a well-conditioned system
LOG_RANGE = 40.0  # natural logarithms outside of +- this belong to no signal
TINY = 1e-30


class MelPredictor(LinearPredictor):
    """A linear predictor with coefficients of mel frames.

    Args:
        config: Order, sub-frames, and meaning of the frames.

    Attributes:
        lookahead: Frames after its own that a sample's coefficients depend on.
    """

    bank: Tensor  # (n_mels, bins)
    share: Tensor  # of each band in a bin, (bins, n_mels)
    density: Tensor  # factor from a band to its mean bin, (n_mels,); 0 for one without bins
    nearest: Tensor  # of each bin, the nearest one inside a band, (bins,)
    cosines: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__(config.order, config.order, coefficients)
        assert config.mel is not None  # source=mel
        mel = config.mel
        self.config = config
        self.subframes = config.subframes
        self.hop_length = mel.hop_length
        self.n_mels = mel.n_mels
        self.lookahead = 1
        self.power = mel.power
        self.log_unit = {
            "natural": 1.0,
            "log10": math.log(10),
            "decibel": math.log(10) * mel.power / 20,
        }[mel.log_base]
        bank = mel_filterbank(mel)
        size, total = bank.sum(dim=1), bank.sum(dim=0)
        bins = torch.arange(len(total), dtype=torch.float64)
        constants = {
            "bank": bank,
            "share": (bank / total.clamp(min=TINY)).T.contiguous(),
            "density": (size > 0) / size.clamp(min=TINY),
            "nearest": ((bins.unsqueeze(1) - bins).abs() + len(bins) * (total == 0)).argmin(dim=1),
            "cosines": _cosines(mel, config.order),
            "mean": torch.tensor(mel.mean, dtype=torch.float64),
            "std": torch.tensor(mel.std, dtype=torch.float64),
        }
        for name, values in constants.items():
            self.register_buffer(name, values, persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the coefficients of every sample, `(B, order + 1, F * hop_length)`.

        Args:
            frames: `(B, C, F)`, mel bands first; the last one continues.
        """
        rows = self.of_subframes(F.pad(frames, (0, self.lookahead), mode="replicate"))
        return self.of_samples(rows)

    @torch.no_grad()
    def of_subframes(self, frames: Tensor) -> Tensor:
        """Return the coefficients of the sub-frames of some frames, given the frame after them.

        Shape:
            - Input: `(B, C, F + 1)`
            - Output: `(B, F * subframes, order + 1)`
        """
        with torch.autocast(frames.device.type, enabled=False):
            mel = frames[:, : self.n_mels].transpose(1, 2)
            return self.coefficients(self, mel)

    def of_samples(self, rows: Tensor) -> Tensor:
        """Return the coefficients of each sample, `(B, order + 1, T)`, from those of sub-frames."""
        samples = torch.arange(rows.shape[1] // self.subframes * self.hop_length)
        return rows[:, self.subframe_of(samples).to(rows.device)].transpose(1, 2)

    def subframe_of(self, samples: Tensor) -> Tensor:
        """Return the number of the sub-frame that each sample is in, for numbers of samples."""
        frames, offsets = samples // self.hop_length, samples % self.hop_length
        return frames * self.subframes + offsets * self.subframes // self.hop_length

    def rows_at(self, position: int, queue: Tensor, rows: Tensor | None) -> Tensor:
        if rows is None:
            raise ValueError("the model needs the coefficients of its frames: pass conditioning")
        return rows

    def autocorrelation(self, frames: Tensor) -> Tensor:
        """Return the autocorrelation of mel frames, `(B, F, order + 1)` for `(B, F, n_mels)`.

        It is that of the windowed signal, per sample, and positive definite for any frames.
        """
        logs = (frames.double() * self.std + self.mean) * self.log_unit
        mel = logs.clamp(-LOG_RANGE, LOG_RANGE).exp()
        r = self._spread(mel).pow(2 / self.power) @ self.cosines
        r = r / r[..., :1].clamp(min=1)  # samples in [-1, 1] have no more power
        lags = torch.arange(self.num_rows, device=r.device)
        return r + ROUNDING_VARIANCE * (lags == 0)

    def _spread(self, mel: Tensor) -> Tensor:
        """Return bins of 0 or more, `(..., bins)`, whose mel bands are `mel`, `(..., n_mels)`.

        From the bands' mean densities on, each iteration multiplies every bin by the mean ratio of
        wanted to found bands around it. A bin outside of all bands gets the value of the nearest
        one inside.
        """
        spectrum = (mel * self.density) @ self.share.T
        for _ in range(ITERATIONS):
            found = (spectrum @ self.bank.T).clamp(min=TINY)
            spectrum = spectrum * ((mel / found) @ self.share.T)
        return spectrum[..., self.nearest]


def coefficients(predictor: MelPredictor, frames: Tensor) -> Tensor:
    """Return the rows of the sub-frames of some frames, `(B, F * subframes, order + 1)` float32.

    Args:
        predictor: Order, sub-frames and meaning of the frames.
        frames: Mel frames and the one after them, `(B, F + 1, n_mels)`.
    """
    r = predictor.autocorrelation(frames)
    parts = torch.arange(predictor.subframes, device=r.device, dtype=r.dtype)
    share = ((parts + 0.5) / predictor.subframes).unsqueeze(1)
    between = torch.lerp(r[:, :-1, None], r[:, 1:, None], share).flatten(1, 2)
    return rounded_rows(*levinson(between.flatten(0, 1))).view(between.shape)


def _cosines(mel: MelConfig, order: int) -> Tensor:
    """Return the matrix from a power spectrum to an autocorrelation, `(bins, order + 1)`.

    It includes the lag window and the power of the analysis window.
    """
    bins = torch.arange(mel.n_fft // 2 + 1).double().unsqueeze(1)
    lags = torch.arange(order + 1).double()
    mirrored = 2 - (bins == 0).double() - (2 * bins == mel.n_fft).double()  # negative frequencies
    energy = torch.hann_window(mel.win_length).double().square().sum()
    widening = torch.exp(-0.5 * (2 * math.pi * LAG_WINDOW_HZ * lags / mel.sample_rate) ** 2)
    noise = 1 + WHITE_NOISE * (lags == 0)
    cosines = torch.cos(2 * math.pi / mel.n_fft * bins * lags)
    return cosines * mirrored / mel.n_fft / energy * widening * noise
