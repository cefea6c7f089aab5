"""The linear predictor of the streams of a batch, as the threads of a warp read it.

See kernels/prediction.cuh: samples and coefficients are integers, in units of 2^-15 and 2^-20.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from wavenet.sampling.conditioning import LocalConditioning
from wavenet.sampling.cuda.packing import STREAMS, padded, per_stream, per_thread
from wavenet.utils.shared_constants import COEFFICIENT_STEP, LEVELS

THREADS = 4  # of two streams: each has every fourth sample
HALF_LEVELS = LEVELS // 2


@dataclass
class PredictorState:
    """What `LinearPredictor.step` keeps in its queue, in the layout of the kernel.

    Attributes:
        samples: The last ones, `(ring / 4, warps, 8, 4, 2)` int32; that of number `n` is in place
            `n % ring`.
        predicted: The last prediction and the scale of its residual, `(2, warps, 8, 4, 2)`
            float32: a copy per thread.
    """

    samples: Tensor
    predicted: Tensor

    @classmethod
    def pack(cls, queue: Tensor, position: int) -> "PredictorState":
        """Return the state of a queue of `LinearPredictor`, `(streams, order + 2)`."""
        streams, order = len(queue), queue.shape[1] - 2
        ring = padded_order(order)
        places = torch.arange(position - order, position, device=queue.device)
        integers = queue.new_zeros(padded(streams), ring, dtype=torch.int32)
        integers[:streams, places % ring] = (queue[:, places % order] * HALF_LEVELS).int()
        parts = integers.view(-1, STREAMS // 2, 2, ring // THREADS, THREADS)
        return cls(parts.permute(3, 0, 1, 4, 2).contiguous(), per_thread(queue[:, -2:].T))

    @classmethod
    def after(cls, samples: Tensor, order: int) -> "PredictorState":
        """Return the state after samples, `(streams, T)`; the last prediction is not known."""
        streams, position = samples.shape
        queue = samples.new_zeros(streams, order + 2)
        queue[:, -1] = 1
        recent = samples[:, -order:]
        places = torch.arange(position - recent.shape[1], position, device=queue.device)
        queue[:, places % order] = recent
        return cls.pack(queue, position)

    def to_queue(self, streams: int, order: int, position: int) -> Tensor:
        """Return the queue that `pack` packed."""
        parts = self.samples.permute(1, 2, 4, 0, 3)
        integers = parts.reshape(-1, parts.shape[3] * THREADS)[:streams]
        places = torch.arange(position - order, position, device=integers.device)
        queue = self.predicted.new_zeros(streams, order + 2)
        queue[:, places % order] = integers[:, places % integers.shape[1]].float() / HALF_LEVELS
        queue[:, -2:] = per_stream(self.predicted, streams).T
        return queue

    def clone(self) -> "PredictorState":
        """Return an independent copy."""
        return PredictorState(self.samples.clone(), self.predicted.clone())


def coefficients(given: LocalConditioning | None, samples: slice, order: int) -> dict[str, Tensor]:
    """Return the coefficients of some samples of a launch, by their names in `Task`.

    Args:
        given: Conditioning with coefficients by sub-frame, of each stream.
        samples: Those of the launch among its samples.
        order: Coefficients of a sub-frame, zeros for the oldest samples included.
    """
    assert given is not None  # the model's predictor takes them from the mel
    assert given.coefficients is not None
    assert given.subframes is not None
    parts = given.subframes[samples]
    begin, end = int(parts[0]), int(parts[-1]) + 1
    rows = given.coefficients[:, begin:end].permute(1, 2, 0)  # (parts, order + 1, streams)
    missing = padded(rows.shape[2]) - rows.shape[2]
    integers = (rows[:, :-1] / COEFFICIENT_STEP).int()
    return {
        "coefficients": F.pad(integers, (0, missing, order - integers.shape[1], 0)).contiguous(),
        "scales": F.pad(rows[:, -1], (0, missing), value=1.0).contiguous(),
        "part_of_sample": (parts - begin).int().to(rows.device),
    }


def padded_order(order: int) -> int:
    """Return the next multiple of 4."""
    return -(-order // THREADS) * THREADS
