"""Linear prediction of a waveform: what the two sources of coefficients have in common.

`wavenet.mel_predictor` computes the coefficients of mel frames, `wavenet.past_predictor` those of
samples that came before.

The prediction has no rounding error: samples are multiples of 2^-15, coefficients of 2^-20, and
float64 holds the sum of their products exactly (up to order 256, beyond if coefficients stay below
2^8). So with equal coefficients every pass, backend, batch and order of summation gives the same
bits.

Levinson 1947 and Durbin 1960 for the equations.
"""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.modules.empty import KeepsConstants
from wavenet.utils.shared_constants import COEFFICIENT_STEP, MAX_COEFFICIENT, RESIDUAL_RANGE

TINY_SHARE = 1e-12  # of the power: rounded coefficients may seem to leave less
ROUNDING_VARIANCE = 2.0**-30 / 12  # of 16-bit samples


class LinearPredictor(KeepsConstants):
    """The prediction of every sample with coefficients of a subclass.

    Coefficients come as rows, `(B, order + 1, T)`: those of a sample from the oldest to the newest
    sample that it is predicted from, then the scale of the residual, all float32.

    Args:
        order: Past samples that a prediction sees.
        memory: Past samples that `step` needs.
        coefficients: Computes rows, as the function of that name beside the subclass.
        kept: Numbers of the last sample that `step` needs besides its prediction and scale.

    Attributes:
        num_rows: Rows of coefficients, `order + 1`.
        receptive_field: Past samples that a prediction depends on.
        operations: Multiplications and additions per sample.
        coefficients: Computes rows. A faster function may take its place, one that
            `functools.wraps` the argument; samplers refuse any other, save `reference`.
    """

    def __init__(
        self, order: int, memory: int, coefficients: Callable[..., Tensor], kept: int = 0
    ) -> None:
        super().__init__()
        self.order = order
        self.memory = memory
        self.kept = kept
        self.coefficients = self._defined = coefficients
        self.num_rows = order + 1
        self.receptive_field = memory
        self.operations = 2 * order

    def predict(self, waveform: Tensor, rows: Tensor) -> Tensor:
        """Return the prediction of every sample, `(B, T)` float32, from the samples before it.

        Args:
            waveform: Samples that are multiples of 2^-15, `(B, T)`; silence is before them.
            rows: Coefficients, `(B, order + 1, T)`.
        """
        length = waveform.shape[-1]
        past = F.pad(waveform.detach().double(), (self.order, 0))
        total = past.new_zeros(waveform.shape)
        for tap in range(self.order):
            total.addcmul_(rows[:, tap].double(), past[:, tap : tap + length])
        return total.float()

    def new_queue(self, batch_size: int) -> Tensor:
        """Return the past of the first sample, `(B, memory + kept + 2)` float32.

        It holds the last `memory` samples, what is kept, the last prediction and the last scale.
        """
        size = self.memory + self.kept + 2
        queue = torch.zeros(batch_size, size, dtype=torch.float32, device=self.device)
        queue[:, -1] = 1
        return queue

    @property
    def has_other_coefficients(self) -> bool:
        """Whether `coefficients` was replaced by something else than a faster function."""
        return inspect.unwrap(self.coefficients) is not self._defined

    @property
    def device(self) -> torch.device:
        """Device of the constants."""
        return next(self.buffers()).device

    def prefill(self, queue: Tensor, inputs: Tensor, prediction: Tensor, rows: Tensor) -> None:
        """Store what `step` would have stored after all samples but the last one.

        Args:
            queue: From `new_queue`, changed in place.
            inputs: Each sample's predecessor, `(B, T)`.
            prediction: Of every sample, `(B, T)`.
            rows: Coefficients of the last sample, `(B, order + 1)`.
        """
        length, recent = inputs.shape[-1], inputs[:, -self.memory :]
        places = torch.arange(length - recent.shape[-1], length, device=queue.device)
        queue[:, places % self.memory] = recent.to(queue)
        queue[:, -2:] = torch.stack([prediction[:, -1], rows[:, -1]], dim=1).to(queue)

    def step(
        self, sample: Tensor, queue: Tensor, position: int, rows: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return a sample's residual, the next one's prediction and its scale, `(B,)` each.

        Args:
            sample: The sample before the one at `position`, `(B,)`.
            queue: From `new_queue`, changed in place.
            position: Number of samples before the one that is predicted, from 0.
            rows: Coefficients for the sample at `position`, `(B, order + 1)`, where they are given.
        """
        residual = scaled_residual(sample.to(queue), queue[:, -2], queue[:, -1])
        queue[:, position % self.memory] = sample
        rows = self.rows_at(position, queue, rows)
        past = self.last_samples(queue, position, self.order).double()
        prediction = (rows[:, :-1].double() * past).sum(dim=1).float()
        queue[:, -2], queue[:, -1] = prediction, rows[:, -1]
        return residual, prediction, rows[:, -1]

    def last_samples(self, queue: Tensor, position: int, count: int) -> Tensor:
        """Return the last samples before the one at `position`, `(B, count)`, oldest first."""
        places = torch.arange(position + 1 - count, position + 1, device=queue.device)
        return queue[:, places % self.memory]

    def rows_at(self, position: int, queue: Tensor, rows: Tensor | None) -> Tensor:
        """Return the coefficients for the sample at `position`, `(B, order + 1)`."""
        raise NotImplementedError


def scaled_residual(sample: Tensor, prediction: Tensor, scale: Tensor) -> Tensor:
    """Return what a prediction left, as an input of the network: 1 is `RESIDUAL_RANGE` scales."""
    return (sample - prediction) / (scale * RESIDUAL_RANGE)


def rounded_rows(exact: Tensor, error: Tensor) -> Tensor:
    """Return rows of coefficients, `(N, order + 1)` float32, as a prediction takes them.

    Args:
        exact: Coefficients from the oldest to the newest sample, `(N, order)` float64.
        error: Power of the residual, `(N,)` float64.
    """
    bounded = exact.clamp(-MAX_COEFFICIENT, MAX_COEFFICIENT)
    rounded = (bounded / COEFFICIENT_STEP).round() * COEFFICIENT_STEP
    return torch.cat([rounded, error.sqrt().unsqueeze(-1)], dim=-1).float()


def levinson(
    r: Tensor, total: Callable[[Tensor], Tensor] = lambda products: products.sum(dim=1)
) -> tuple[Tensor, Tensor]:
    """Return the best linear predictors of autocorrelations, and the power of their errors.

    Args:
        r: Autocorrelations by lag, positive definite, `(N, order + 1)` float64.
        total: Sums products, `(N, lag)`, by row; its order of terms decides the last bits.

    Returns:
        Coefficients from the oldest to the newest sample, `(N, order)`, and the error, `(N,)`.
    """
    order = r.shape[1] - 1
    newest_first, error = torch.zeros_like(r[:, 1:]), r[:, 0].clone()
    falling = r.flip(1)
    for lag in range(order):
        known = newest_first[:, :lag]
        explained = total(known * falling[:, order - lag : order])
        reflection = ((r[:, lag + 1] - explained) / error).unsqueeze(1)
        known -= reflection * known.flip(1)
        newest_first[:, lag : lag + 1] = reflection
        error = error * (1 - reflection[:, 0].square())
    return newest_first.flip(1), error


def prediction_gain(coefficients: Tensor) -> Tensor:
    """Return by how many decibels the residual is weaker than the signal, `(N,)` float64.

    Levinson's recursion undone: the gain is that of the signal to which the predictors are best.

    Args:
        coefficients: From the oldest to the newest sample, `(N, order)`.
    """
    newest_first = coefficients.double().flip(1)
    gain = newest_first.new_zeros(len(newest_first))
    for lag in range(newest_first.shape[1] - 1, -1, -1):
        known, reflection = newest_first[:, :lag], newest_first[:, lag]
        share = (1 - reflection.square()).clamp(min=TINY_SHARE)  # of the power, that is left
        gain = gain - 10 * share.log10()
        known += reflection.unsqueeze(1) * known.flip(1)
        known /= share.unsqueeze(1)
    return gain
