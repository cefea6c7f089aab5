"""WaveNet: the distribution of each sample of a waveform, given all samples before it.

Two passes give the same numbers. `forward` sees the whole waveform and serves training; `step` goes
sample by sample over a state that its caller owns and serves generation. `prefill` puts a prompt
into that state in one parallel pass.

WaveNet, arXiv:1609.03499.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from wavenet.config import WaveNetConfig
from wavenet.distributions import Categorical
from wavenet.modules import CausalConv1d, CausalEmbedding, Head, ResidualStack


@dataclass
class WaveNetState:
    """Where generation stands.

    Attributes:
        queues: Recent inputs of each dilated convolution, the first convolution's before all.
        position: Samples seen so far.
    """

    queues: list[Tensor]
    position: int = 0

    @property
    def batch_size(self) -> int:
        """Return the number of items; 0 where the queues do not agree on it."""
        sizes = {len(queue) for queue in self.queues}
        return sizes.pop() if len(sizes) == 1 else 0

    def clone(self) -> "WaveNetState":
        """Return a copy that goes on by itself."""
        return WaveNetState([queue.clone() for queue in self.queues], self.position)

    def select(self, items: Sequence[int]) -> "WaveNetState":
        """Return a copy of some items of the batch."""
        return WaveNetState([queue[list(items)] for queue in self.queues], self.position)

    def plain(self) -> "WaveNetState":
        """Return this state; samplers keep states in other forms, which have this way back."""
        return self


class WaveNet(nn.Module):
    """Autoregressive model of a waveform.

    Args:
        config: Shape of the weights.

    Shape:
        - Input: waveform `(B, T)`, samples in [-1, 1]
        - Output: `(B, P, T)`; `[:, :, t]` are the parameters of sample `t` given samples before `t`

    Example:
        >>> model = WaveNet(WaveNetConfig(dilations=(1, 2, 4)))
        >>> loss = model.nll(torch.zeros(1, 100)).mean()
    """

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        self.distribution = Categorical(config.levels)
        width, kernel_size = config.residual_channels, config.input_kernel_size
        self.input: CausalEmbedding | CausalConv1d
        if config.input == "embedding":
            self.input = CausalEmbedding(config.levels, width, kernel_size, bias=config.bias)
        else:
            self.input = CausalConv1d(1, width, kernel_size, bias=config.bias)
        self.stack = ResidualStack(
            config.dilations,
            width,
            config.gate_channels,
            config.skip_channels,
            config.kernel_size,
            bias=config.bias,
            dropout=config.dropout,
            residual_scale=config.residual_scale,
            skip_scale=config.skip_scale,
        )
        self.head = Head(
            config.skip_channels,
            config.head_channels,
            self.distribution.num_params,
            bias=config.bias,
        )
        if config.weight_norm:
            for module in list(self.modules()):
                if isinstance(module, nn.Conv1d):
                    weight_norm(module)

    def forward(self, waveform: Tensor) -> Tensor:
        """Return the parameters of every sample, `(B, P, T)`, for a waveform `(B, T)`."""
        params: Tensor = self.head(self.stack(self.input(self._seen(delay(waveform)))))
        return params

    def nll(self, waveform: Tensor) -> Tensor:
        """Return the negative log-likelihood of every sample in nats, `(B, T)`."""
        return self.distribution.nll(self(waveform), waveform)

    def new_state(self, batch_size: int = 1) -> WaveNetState:
        """Return the state before the first sample: silence."""
        queues = [self.input.new_queue(batch_size), *self.stack.new_queues(batch_size)]
        return WaveNetState(queues)

    def prefill(self, state: WaveNetState, prompt: Tensor) -> None:
        """Take the state from the start to the end of a prompt, in one parallel pass.

        The same as stepping over the prompt; what remains is to `step` with its last sample.

        Args:
            state: Fresh from `new_state`.
            prompt: Samples in [-1, 1], `(B, T)`.

        Raises:
            ValueError: The state is not at its start.
        """
        if state.position:
            raise ValueError(f"prefill wants a state at its start, got position {state.position}")
        state.position = prompt.shape[1]
        recent = delay(prompt)[:, -self.config.receptive_field :]  # no queue reaches further back
        seen = self._seen(recent)
        self.input.fill(state.queues[0], seen, state.position)
        self.stack.fill(state.queues[1:], self.input(seen), state.position)

    def step(self, sample: Tensor, state: WaveNetState) -> Tensor:
        """Return the parameters of the next sample, `(B, P)`; the state moves on by one.

        Args:
            sample: The sample before it in [-1, 1], `(B,)`; zeros before the first.
            state: From `new_state`, changed in place.
        """
        seen = self._seen(sample.unsqueeze(-1)).squeeze(-1)
        x = self.input.step(seen, state.queues[0], state.position)
        x = self.stack.step(x, state.queues[1:], state.position)
        state.position += 1
        return self.head.step(x)

    def _seen(self, waveform: Tensor) -> Tensor:
        """Return what the first convolution sees: classes `(B, T)`, or values `(B, 1, T)`."""
        if isinstance(self.input, CausalEmbedding):
            return self.distribution.encode(waveform)
        return self.distribution.quantise(waveform).unsqueeze(1)


def unset(config: WaveNetConfig) -> WaveNet:
    """Return a model whose weights are to be set; the caller's random numbers are left alone."""
    with torch.random.fork_rng(devices=[]):
        return WaveNet(config)


def delay(waveform: Tensor) -> Tensor:
    """Return the waveform one sample late, `(B, T)`: a sample of silence first, the last gone."""
    return F.pad(waveform, (1, 0))[..., :-1]
