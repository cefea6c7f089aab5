"""The state of a model between two samples; it belongs to the caller."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass
class WaveNetState:
    """The past that the next sample depends on.

    Attributes:
        queues: Recent inputs of each dilated convolution, those of the input layer first; the past
            of the linear predictor last, if there is one.
        position: Samples processed so far.
    """

    queues: list[Tensor]
    position: int = 0

    @property
    def batch_size(self) -> int:
        """Return the number of items; 0 if the queues differ in it."""
        sizes = {len(queue) for queue in self.queues}
        return sizes.pop() if len(sizes) == 1 else 0

    @property
    def nbytes(self) -> int:
        """Return the memory of the queues."""
        return sum(queue.nbytes for queue in self.queues)

    def clone(self) -> "WaveNetState":
        """Return an independent copy."""
        return WaveNetState([queue.clone() for queue in self.queues], self.position)

    def select(self, items: Sequence[int]) -> "WaveNetState":
        """Return a copy of some items of the batch."""
        return WaveNetState([queue[list(items)] for queue in self.queues], self.position)

    def to_wavenet_state(self) -> "WaveNetState":
        """Return this state; samplers' own forms of a state convert back with the same method."""
        return self
