"""WaveNet: the distribution of each sample of a waveform, given all samples before it.

Two passes give the same numbers. `forward` sees the whole waveform and serves training; `step` goes
sample by sample over a state that its caller owns and serves generation. `prefill` puts a prompt
into that state in one parallel pass.

WaveNet, arXiv:1609.03499.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

from wavenet.config import WaveNetConfig
from wavenet.distributions import build_distribution
from wavenet.modules import (
    CausalConv1d,
    CausalEmbedding,
    GlobalConditioner,
    Head,
    LocalConditioner,
    ResidualStack,
)
from wavenet.modules.standard import first_difference


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
    """Autoregressive model of a waveform, conditioned or not.

    Args:
        config: Shape of the weights.

    Shape:
        - Input: waveform `(B, T)`, samples in [-1, 1]; as the config says, `local` `(B, C, F)`,
          whose frame `f` covers samples from `f * hop`, `speaker` `(B,)`, `vector` `(B, V)`
        - Output: `(B, P, T)`; `[:, :, t]` are the parameters of sample `t` given samples before
          `t` and the condition of `t`

    Example:
        >>> model = WaveNet(WaveNetConfig(dilations=(1, 2, 4)))
        >>> loss = model.nll(torch.zeros(1, 100)).mean()
    """

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        self.distribution = build_distribution(config)
        width, kernel_size = config.residual_channels, config.input_kernel_size
        self.input: CausalEmbedding | CausalConv1d
        if config.input_type == "embedding":
            self.input = CausalEmbedding(
                config.quantization_channels, width, kernel_size, bias=config.bias
            )
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
            conditioning_channels=config.conditioning_channels,
        )
        self.head = Head(
            config.skip_channels,
            config.head_channels,
            self.distribution.num_params,
            bias=config.bias,
        )
        initial_bias = self.distribution.initial_bias()
        if self.head.output.bias is not None and initial_bias is not None:
            with torch.no_grad():
                self.head.output.bias.copy_(initial_bias)
        self.global_conditioner = build_global_conditioner(config)
        self.local_conditioner = build_local_conditioner(config)
        if config.weight_norm:
            for module in list(self.modules()):
                if isinstance(module, nn.Conv1d):
                    weight_norm(module)

    def forward(
        self,
        waveform: Tensor,
        *,
        local: Tensor | None = None,
        speaker: Tensor | None = None,
        vector: Tensor | None = None,
    ) -> Tensor:
        """Return the parameters of every sample, `(B, P, T)`, for a waveform `(B, T)`."""
        condition = self.condition(*waveform.shape, local=local, speaker=speaker, vector=vector)
        return self.forward_from_conditioning(waveform, condition)

    def forward_from_conditioning(self, waveform: Tensor, condition: Tensor | None) -> Tensor:
        """Return what `forward` returns where `condition` conditions the samples, `(B, C, T)`."""
        x = self.input(self._seen(shift_right(waveform)))
        params: Tensor = self.head(self.stack(x, condition))
        return params

    def nll(self, waveform: Tensor, **conditions: Tensor | None) -> Tensor:
        """Return the negative log-likelihood of every sample in nats, `(B, T)`; as `forward`."""
        return self.distribution.nll(self(waveform, **conditions), waveform)

    def condition(
        self,
        batch_size: int,
        length: int,
        *,
        local: Tensor | None = None,
        speaker: Tensor | None = None,
        vector: Tensor | None = None,
    ) -> Tensor | None:
        """Return what conditions each sample, `(B, C, T)`; `None` for a model without conditions.

        Raises:
            ValueError: A condition is missing, too short, or none of this model's.
        """
        parts = []
        if self.local_conditioner is not None:
            parts.append(self._local(local, batch_size, length))
        elif local is not None:
            raise ValueError("the model knows no local condition: leave local out")
        whole = self.global_condition(batch_size, speaker, vector)
        if whole is not None:
            parts.append(whole.unsqueeze(-1).expand(-1, -1, length))
        return torch.cat(parts, dim=1) if parts else None

    def global_condition(
        self, batch_size: int, speaker: Tensor | None = None, vector: Tensor | None = None
    ) -> Tensor | None:
        """Return what conditions each whole signal, `(B, C)`; `None` where nothing does."""
        if self.global_conditioner is not None:
            condition: Tensor = self.global_conditioner(speaker, vector, batch_size)
            return condition
        if speaker is not None or vector is not None:
            raise ValueError("the model knows no speaker and no vector: leave them out")
        return None

    def _local(self, local: Tensor | None, batch_size: int, length: int) -> Tensor:
        assert self.local_conditioner is not None
        assert self.config.local is not None
        channels, hop = self.config.local.in_channels, self.local_conditioner.hop_length
        if local is None:
            raise ValueError(f"the model wants local=, frames of {channels} numbers each")
        if local.dim() != 3 or tuple(local.shape[:2]) != (batch_size, channels):
            wanted = f"({batch_size}, {channels}, F)"
            raise ValueError(f"local must be {wanted}, got {tuple(local.shape)}")
        if local.shape[2] * hop < length:
            raise ValueError(
                f"local has {local.shape[2]} frames of {hop} samples, the waveform {length} samples"
            )
        condition: Tensor = self.local_conditioner(local)
        return condition[..., :length]

    def new_state(self, batch_size: int = 1) -> WaveNetState:
        """Return the state before the first sample: silence."""
        queues = [self.input.new_queue(batch_size), *self.stack.new_queues(batch_size)]
        return WaveNetState(queues)

    def prefill(self, state: WaveNetState, prompt: Tensor, condition: Tensor | None = None) -> None:
        """Take the state from the start to the end of a prompt, in one parallel pass.

        The same as stepping over the prompt; what remains is to `step` with its last sample.

        Args:
            state: Fresh from `new_state`.
            prompt: Samples in [-1, 1], `(B, T)`.
            condition: Of these samples, `(B, C, T)`, from `condition`.

        Raises:
            ValueError: The state is not at its start.
        """
        if state.position:
            raise ValueError(f"prefill wants a state at its start, got position {state.position}")
        state.position = prompt.shape[1]
        field = self.config.receptive_field  # no queue reaches further back
        seen = self._seen(shift_right(prompt)[:, -field:])
        recent = None if condition is None else condition[..., -field:]
        self.input.fill(state.queues[0], seen, state.position)
        self.stack.fill(state.queues[1:], self.input(seen), state.position, recent)

    def step(self, sample: Tensor, state: WaveNetState, condition: Tensor | None = None) -> Tensor:
        """Return the parameters of the next sample, `(B, P)`; the state moves on by one.

        Args:
            sample: The sample before it in [-1, 1], `(B,)`; zeros before the first.
            state: From `new_state`, changed in place.
            condition: Of the next sample, `(B, C)`, from `condition`.
        """
        seen = self._seen(sample.unsqueeze(-1)).squeeze(-1)
        x = self.input.step(seen, state.queues[0], state.position)
        x = self.stack.step(x, state.queues[1:], state.position, condition)
        state.position += 1
        return self.head.step(x)

    def nonstandard_part(self) -> str | None:
        """Return what differs from `WaveNet(self.config)`, weights aside; `None` for nothing.

        The sentence names the first module that was replaced, subclassed, given hooks or built
        with other options. Implementations that know only the standard model refuse with it.
        """
        with torch.device("meta"):
            standard = WaveNet(self.config)
        distribution, wanted = self.distribution, standard.distribution
        if type(distribution) is not type(wanted):
            return f"distribution is {type(distribution).__name__}, not {type(wanted).__name__}"
        for name, value in vars(distribution).items():
            expected = vars(wanted).get(name)
            if isinstance(value, (int, float)) and value != expected:
                return f"distribution has {name}={value}, not {expected}"
            if callable(value) and callable(getattr(type(distribution), name, None)):
                return f"distribution has a {name} of its own, set on the instance"
        return first_difference(self, standard)

    def _seen(self, waveform: Tensor) -> Tensor:
        """Return what the first convolution sees: classes `(B, T)`, or values `(B, 1, T)`."""
        if isinstance(self.input, CausalEmbedding):
            return self.distribution.encode(waveform)
        return self.distribution.quantize(waveform).unsqueeze(1)


def build_global_conditioner(config: WaveNetConfig) -> GlobalConditioner | None:
    """Return what turns a speaker or a vector into a condition, if there is one."""
    if not config.has_global_conditioning:
        return None
    return GlobalConditioner(
        config.global_channels,
        config.num_speakers,
        config.global_in_channels,
        conditioning_dropout=config.conditioning_dropout,
    )


def build_local_conditioner(config: WaveNetConfig) -> LocalConditioner | None:
    """Return what turns frames into a condition, if there is one."""
    local = config.local
    if local is None:
        return None
    return LocalConditioner(
        local.in_channels,
        local.channels,
        local.upsample_scales,
        local.upsample,
        kernel_size=local.kernel_size,
        lookahead=local.lookahead,
        context_dilations=local.context_dilations,
    )


def unwrap(model: nn.Module) -> WaveNet:
    """Return the `WaveNet` inside what torch.compile, DistributedDataParallel or DataParallel made.

    Raises:
        TypeError: There is no `WaveNet` inside.
    """
    inner: Any = model
    while not isinstance(inner, WaveNet):
        if isinstance(inner, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            inner = inner.module
        elif isinstance(getattr(inner, "_orig_mod", None), nn.Module):  # torch.compile's wrapper
            inner = inner._orig_mod
        else:
            raise TypeError(
                "expected a WaveNet, or one wrapped by torch.compile, DistributedDataParallel or "
                f"DataParallel, got {type(model).__name__}"
            )
    return inner


def init_empty(config: WaveNetConfig) -> WaveNet:
    """Return a model whose weights are to be set; the caller's random numbers are left alone."""
    with torch.random.fork_rng(devices=[]):
        return WaveNet(config)


def shift_right(waveform: Tensor) -> Tensor:
    """Return the waveform one sample late, `(B, T)`: a sample of silence first, the last gone."""
    return F.pad(waveform, (1, 0))[..., :-1]
