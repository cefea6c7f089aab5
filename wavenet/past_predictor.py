"""Linear prediction of a waveform with coefficients of the samples that came before.

Every `interval` samples, the last `window_length` ones are weighted with a window that falls
steeply to the newest, their autocorrelation gets a lag window and a little white noise, and its
normal equations give the coefficients until the next update: backward-adaptive prediction, as in
ITU-T G.728. So the coefficients need no conditioning, and the sampler computes what training did.

They are the same to the bit in every pass, backend, batch and on every device: samples and weights
are integers, whose products add up in 64 bits without rounding, and everything after that is a
fixed sequence of float64 operations, each rounded by itself.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.feature_configs import PredictorConfig
from wavenet.linear_predictor import LinearPredictor, levinson, rounded_rows

SAMPLE_UNITS = 2.0**15  # of the integer that a sample is
MAX_WEIGHT = 1023  # with 4,096 samples at most, sums stay below 2^62
FALL = 32  # the window falls within its newest 32nd
WHITE_NOISE = 1e-6  # of the power, added for a well-conditioned system
NOISE_VARIANCE = 2.0**-26  # added too, that of 4 steps of 16 bits: after silence a scale is sane


class PastPredictor(LinearPredictor):
    """A linear predictor with coefficients of past samples.

    Args:
        config: Order, window and interval.

    Attributes:
        weights: Integers by which the samples of a window are multiplied, `(window_length,)`.
        factors: From sums of integer products to autocorrelation, by lag, `(order + 1,)`.
    """

    weights: Tensor
    factors: Tensor

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__(config.order, config.window_length, past_coefficients, config.order)
        self.interval = config.interval
        self.receptive_field = config.receptive_field
        a_window = 2 * config.window_length * (config.order + 1) + 2 * config.order**2
        self.operations += a_window // config.interval
        weights = _window(config.window_length)
        lags = torch.arange(config.order + 1).double()
        widening = torch.exp(-0.5 * (math.pi * lags / config.window_length) ** 2)
        noise = 1 + WHITE_NOISE * (lags == 0).double()
        energy = weights.double().square().sum() * SAMPLE_UNITS**2
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("factors", widening * noise / energy, persistent=False)

    @torch.no_grad()
    def forward(self, waveform: Tensor) -> Tensor:
        """Return the coefficients of every sample, `(B, order + 1, T)`.

        Args:
            waveform: Samples that are multiples of 2^-15, `(B, T)`; silence is before them.
        """
        length = waveform.shape[-1]
        blocks = -(-length // self.interval)
        past = F.pad(waveform.detach(), (self.memory, 0))[:, : length + self.memory - 1]
        rows = self.coefficients(self, past, blocks)
        return rows.repeat_interleave(self.interval, dim=1)[:, :length].transpose(1, 2)

    def prefill(self, queue: Tensor, inputs: Tensor, prediction: Tensor, rows: Tensor) -> None:
        super().prefill(queue, inputs, prediction, rows)
        queue[:, self.memory : -2] = rows[:, :-1]

    def rows_at(self, position: int, queue: Tensor, rows: Tensor | None) -> Tensor:
        if position % self.interval:
            return torch.cat([queue[:, self.memory : -2], queue[:, -1:]], dim=1)
        rows = self.coefficients(self, self.last_samples(queue, position, self.memory), 1)[:, 0]
        queue[:, self.memory : -2] = rows[:, :-1]
        return rows


def past_coefficients(predictor: PastPredictor, waveform: Tensor, count: int) -> Tensor:
    """Return the coefficients of successive windows, `(B, count, order + 1)` float32.

    Args:
        predictor: Order, window and interval.
        waveform: The samples of the windows, the first one's oldest at the start, `(B, T)`.
        count: Windows.
    """
    length, order = predictor.memory, predictor.order
    integers = (waveform.double() * SAMPLE_UNITS).round().long()
    last = (count - 1) * predictor.interval + length
    windows = integers[:, :last].unfold(1, length, predictor.interval) * predictor.weights
    sums = [
        (windows[..., lag:] * windows[..., : length - lag]).sum(dim=-1) for lag in range(order + 1)
    ]
    r = torch.stack(sums, dim=-1).double() * predictor.factors
    r[..., 0] += NOISE_VARIANCE
    return rounded_rows(*levinson(r.flatten(0, 1), _sum_in_order)).view(r.shape)


def _sum_in_order(products: Tensor) -> Tensor:
    """Return the sum of each row, from the first term to the last."""
    total = products.new_zeros(len(products))
    for product in products.unbind(dim=1):
        total = total + product
    return total


def _window(length: int) -> Tensor:
    """Return integer weights, oldest first: half a Hann window that rises, and one that falls."""
    fall = max(1, length // FALL)
    rise = length - fall
    rising = torch.sin(math.pi / 2 * (torch.arange(rise).double() + 0.5) / rise)
    falling = torch.cos(math.pi / 2 * (torch.arange(fall).double() + 0.5) / fall)
    return (torch.cat([rising, falling]).square() * MAX_WEIGHT).round().long()
