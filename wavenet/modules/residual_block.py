"""Gated residual block: a dilated convolution, a gate, a residual output and a skip output.

    y = conv(x + step_projection(s)) + conditioning_conv(c)
    z = tanh(first half of y) * sigmoid(second half), or another gate
    residual output: (x + residual_conv(z)) * residual_scale
    skip output: skip_conv(z)

`c` is a conditioning of every sample, or one for all samples, and `s` a vector per item, such as
the embedding of a diffusion step; both are optional.

WaveNet, sections 2.1 and 2.3 to 2.5 (arXiv:1609.03499); diffusion steps as in DiffWave, section 3.1
(arXiv:2009.09761); FiLM: Perez et al. 2018 (arXiv:1709.07871).
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.modules import checks
from wavenet.modules.checks import (
    check_dtype,
    check_input,
    check_signal,
    check_step_is_whole,
    check_tensor,
    check_vector,
    one_of,
)
from wavenet.modules.conv import CausalConv1d, SameConv1d, convolve_window, pointwise

Gate = str | Callable[[Tensor], Tensor]
DropoutAt = Literal["input", "before_gate", "gate"]


def tanh_sigmoid(y: Tensor) -> Tensor:
    """Return the tanh of the first half of the channels times the sigmoid of the second."""
    tanh, sigmoid = y.chunk(2, dim=1)
    return tanh.tanh() * sigmoid.sigmoid()


def sigmoid_tanh(y: Tensor) -> Tensor:
    """Return the sigmoid of the first half of the channels times the tanh of the second."""
    sigmoid, tanh = y.chunk(2, dim=1)
    return sigmoid.sigmoid() * tanh.tanh()


GATES: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh*sigmoid": tanh_sigmoid,
    "sigmoid*tanh": sigmoid_tanh,
    "tanh": torch.tanh,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
}


class ResidualBlock(nn.Module):
    """One block of a `ResidualStack`: WaveNet, sections 2.1 and 2.3 to 2.5 (arXiv:1609.03499).

    To change it, choose another `gate`, override `activation`, which `forward`, `prefill` and
    `step` share, or replace a convolution: the stack then runs block by block.

    Args:
        residual_channels: Width of the residual output.
        gate_channels: Width of the dilated convolution; even for gates of two halves.
        skip_channels: Width of the skip output; 0 for none.
        kernel_size: Taps of the dilated convolution, 1 or more.
        dilation: Samples between taps, 1 or more.
        in_channels: Width of the input; if it is not `residual_channels`, a 1x1 convolution brings
            the input to that width for the residual sum.
        causal: Look back only; otherwise to both sides, with the same length.
        bias: Whether the convolutions have biases.
        gate: `tanh*sigmoid`, `sigmoid*tanh`, `tanh`, `relu`, `leaky_relu`, or a function from `(B,
            gate_channels, ...)` to `(B, C, ...)`.
        dropout: Probability of dropping a value in training, 0 to 1; in `forward` only.
        dropout_at: What is dropped: `input` of the dilated convolution, `before_gate` or `gate`,
            its output.
        residual_scale: Factor on the sum of input and residual.
        last: Leave out the residual convolution, where nothing reads its output.
        conditioning_channels: Width of the conditioning; 0 for none.
        step_channels: Width of a vector per item that is added before the dilated convolution.
        film_channels: Width of what scales and shifts the input of the gate; 0 for none.

    Shape:
        - Input: `(B, in_channels, T)`; conditioning `(B, conditioning_channels, T)` or of one
          sample for all; `step_embedding` `(B, step_channels)`; `film` `(B, film_channels)` or with
          `T` last; `mask` `(B, 1, T)`, a factor on the residual output
        - Output: `(B, residual_channels, T)` and skip `(B, skip_channels, T)`, `None` without skips

    Raises:
        ValueError: An option is out of its range, or an input is missing, unused, or misshaped.
    """

    def __init__(
        self,
        residual_channels: int,
        gate_channels: int,
        skip_channels: int,
        kernel_size: int = 2,
        dilation: int = 1,
        *,
        in_channels: int | None = None,
        causal: bool = True,
        bias: bool = True,
        gate: Gate = "tanh*sigmoid",
        dropout: float = 0.0,
        dropout_at: DropoutAt = "input",
        residual_scale: float = 1.0,
        last: bool = False,
        conditioning_channels: int = 0,
        step_channels: int = 0,
        film_channels: int = 0,
    ) -> None:
        super().__init__()
        if dropout_at not in get_args(DropoutAt):
            raise ValueError(f"dropout_at must be {one_of(get_args(DropoutAt))}, got {dropout_at}")
        in_channels = residual_channels if in_channels is None else in_channels
        checks.check_sizes(1, residual_channels=residual_channels, in_channels=in_channels)
        checks.check_sizes(0, skip_channels=skip_channels, step_channels=step_channels)
        checks.check_sizes(
            0, conditioning_channels=conditioning_channels, film_channels=film_channels
        )
        checks.check_probability("dropout", dropout)
        checks.check_finite_numbers(residual_scale=residual_scale)
        width = gated_channels(gate, gate_channels)
        self.gate = gate
        self.residual_scale = residual_scale
        self.dropout = nn.Dropout(dropout)
        self.dropout_at = dropout_at
        kind = CausalConv1d if causal else SameConv1d
        self.conv: CausalConv1d | SameConv1d = kind(
            in_channels, gate_channels, kernel_size, dilation, bias=bias
        )
        self.conditioning_conv = None
        if conditioning_channels:
            self.conditioning_conv = nn.Conv1d(conditioning_channels, gate_channels, 1, bias=False)
        self.step_projection = nn.Linear(step_channels, in_channels) if step_channels else None
        self.film_conv = None
        if film_channels:
            self.film_conv = nn.Conv1d(film_channels, 2 * gate_channels, 1)
        self.shortcut_conv = None
        if in_channels != residual_channels and not last:
            self.shortcut_conv = nn.Conv1d(in_channels, residual_channels, 1, bias=bias)
        self.residual_conv = None if last else nn.Conv1d(width, residual_channels, 1, bias=bias)
        self.skip_conv = nn.Conv1d(width, skip_channels, 1, bias=bias) if skip_channels else None

    def forward(
        self,
        x: Tensor,
        conditioning: Tensor | None = None,
        *,
        projected: Tensor | None = None,
        mask: Tensor | None = None,
        step_embedding: Tensor | None = None,
        film: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the residual output, and the skip output if there is one.

        Args:
            x: `(B, in_channels, T)`.
            conditioning: `(B, conditioning_channels, T)`, or with one sample for all.
            projected: What is added to the output of the dilated convolution, `(B, gate_channels,
                T)` or with one sample, where conditioning is projected outside of the block.
            mask: Factor on the residual output, `(B, 1, T)`.
            step_embedding: `(B, step_channels)`.
            film: `(B, film_channels)`, or `(B, film_channels, T)`.
        """
        check_input(x)
        y = self.conv(self._conv_input(x, step_embedding, drop=True))
        z = self._gated(y, self._projected(x, conditioning, projected), film, drop=True)
        output = self._residual_output(x, z)
        return output if mask is None else output * mask, self._skip_output(z)

    def forward_window(
        self,
        x: Tensor,
        padding: tuple[int, int],
        conditioning: Tensor | None = None,
        *,
        projected: Tensor | None = None,
        mask: Tensor | None = None,
        step_embedding: Tensor | None = None,
        film: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the outputs of some samples from the inputs around them, as `forward` does.

        Args:
            x: `(B, in_channels, T + memory - sum(padding))`: the inputs that the dilated
                convolution sees for `T` samples; `T` is the length of the other arguments.
            padding: Zeros before and after these inputs, where the signal begins and ends.
            conditioning: See `forward`.
            projected: See `forward`.
            mask: See `forward`.
            step_embedding: See `forward`.
            film: See `forward`.
        """
        y = convolve_window(self.conv, self._conv_input(x, step_embedding), padding)
        first = self.conv.sides[0] - padding[0]
        x = x[..., first : first + y.shape[-1]]
        z = self._gated(y, self._projected(x, conditioning, projected), film)
        output = self._residual_output(x, z)
        return output if mask is None else output * mask, self._skip_output(z)

    def activation(self, y: Tensor, projected: Tensor | None) -> Tensor:
        """Return the gate's output, `(B, C, ...)`.

        Args:
            y: Output of the dilated convolution, `(B, gate_channels, T)`, or of one sample, `(B,
                gate_channels)`.
            projected: Projected conditioning of the same samples, if there is one.
        """
        gate = GATES[self.gate] if isinstance(self.gate, str) else self.gate
        return gate(y if projected is None else y + projected)

    def new_queue(self, batch_size: int) -> Tensor:
        """Return the silence before the first sample, `(B, in_channels, memory)`.

        Raises:
            ValueError: There are hooks, or a `forward`, that `step` would leave out.
        """
        check_step_is_whole(self)
        check_step_is_whole(self.dropout, "the block's dropout")
        return self._causal_conv().new_queue(batch_size)

    def prefill(
        self,
        queue: Tensor,
        x: Tensor,
        position: int,
        conditioning: Tensor | None = None,
        *,
        projected: Tensor | None = None,
        step_embedding: Tensor | None = None,
        film: Tensor | None = None,
    ) -> Tensor:
        """Store the end of `x`, which ends at sample `position - 1`; return the residual output.

        Args:
            queue: From `new_queue`, changed in place.
            x: The whole past, `(B, in_channels, T)`, or its end, before which is silence.
            position: Number of samples before the next step, `T` or more.
            conditioning: As in `forward`.
            projected: As in `forward`.
            step_embedding: As in `forward`.
            film: As in `forward`.

        Raises:
            ValueError: `x` has another batch size than the queue, or more than `position` samples.
        """
        check_input(x)
        seen = self._conv_input(x, step_embedding)
        self._causal_conv().prefill(queue, seen, position)
        z = self._gated(self.conv(seen), self._projected(x, conditioning, projected), film)
        return self._residual_output(x, z)

    def step(
        self,
        x: Tensor,
        queue: Tensor,
        position: int,
        conditioning: Tensor | None = None,
        *,
        projected: Tensor | None = None,
        step_embedding: Tensor | None = None,
        film: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return residual and skip output of sample `position`, `(B, C)` each.

        Args:
            x: Input sample `position`, `(B, in_channels)`.
            queue: From `new_queue`; the sample enters it, in place.
            position: Samples that came before, from 0.
            conditioning: Of this sample, `(B, conditioning_channels)`.
            projected: As in `forward`, `(B, gate_channels)`.
            step_embedding: `(B, step_channels)`.
            film: `(B, film_channels)`.
        """
        y = self._causal_conv().step(self._conv_input(x, step_embedding), queue, position)
        z = self._gated(y, self._projected(x, conditioning, projected), film)
        return self._residual_output(x, z), self._skip_output(z)

    def _conv_input(
        self, x: Tensor, step_embedding: Tensor | None, *, drop: bool = False
    ) -> Tensor:
        check_tensor("the block's input", x)
        if x.dim() not in (2, 3) or x.shape[1] != self.conv.in_channels:
            wanted = f"(B, {self.conv.in_channels}{', T' * (x.dim() != 2)})"
            raise ValueError(f"the block's input must be {wanted}, got {tuple(x.shape)}")
        seen = self.dropout(x) if drop and self.dropout_at == "input" else x
        linear = self.step_projection
        check_vector(
            "step_embedding", step_embedding, None if linear is None else linear.in_features, x
        )
        if linear is None or step_embedding is None:
            return seen
        vector: Tensor = linear(step_embedding)
        return seen + (vector if x.dim() == 2 else vector.unsqueeze(-1))

    def _projected(
        self, x: Tensor, conditioning: Tensor | None, projected: Tensor | None
    ) -> Tensor | None:
        conv = self.conditioning_conv
        check_signal("conditioning", conditioning, _width(conv), x)
        if projected is not None:
            check_signal("projected", projected, self.conv.out_channels, x)
        if conv is None or conditioning is None:
            return projected
        check_dtype(conditioning, conv, "conditioning")
        own = conv1x1(conv, conditioning)
        return own if projected is None else own + projected

    def _gated(
        self, y: Tensor, projected: Tensor | None, film: Tensor | None, *, drop: bool = False
    ) -> Tensor:
        conv = self.film_conv
        check_tensor("film", film)
        if film is not None and film.dim() == 2 and y.dim() == 3:
            film = film.unsqueeze(-1)
        check_signal("film", film, _width(conv), y)
        if conv is not None and film is not None:
            check_dtype(film, conv, "film")
            scale, shift = conv1x1(conv, film).chunk(2, dim=1)
            y, projected = (y if projected is None else y + projected) * (1 + scale) + shift, None
        if drop and self.dropout_at == "before_gate":
            y, projected = self.dropout(y if projected is None else y + projected), None
        z = self.activation(y, projected)
        return self.dropout(z) if drop and self.dropout_at == "gate" else z

    def _residual_output(self, x: Tensor, z: Tensor) -> Tensor:
        if self.residual_conv is None:
            return x
        x = x if self.shortcut_conv is None else conv1x1(self.shortcut_conv, x)
        total = x + conv1x1(self.residual_conv, z)
        scale = self.residual_scale  # a number; a tensor gets a gradient also at 1
        return total * scale if isinstance(scale, Tensor) or scale != 1.0 else total

    def _skip_output(self, z: Tensor) -> Tensor | None:
        return None if self.skip_conv is None else conv1x1(self.skip_conv, z)

    def _causal_conv(self) -> CausalConv1d:
        if not isinstance(self.conv, CausalConv1d):
            raise ValueError(
                "a non-causal block sees the future and has no step: use ResidualStack.stream"
            )
        return self.conv


def gated_channels(gate: Gate, gate_channels: int) -> int:
    """Return the width of a gate's output.

    Raises:
        ValueError: The gate is unknown, or the width of its input does not suit it.
    """
    checks.check_sizes(1, gate_channels=gate_channels)
    if not isinstance(gate, str):
        with torch.no_grad():
            found = gate(torch.zeros(1, gate_channels, 1))
        if found.dim() != 3 or found.shape[::2] != (1, 1):
            raise ValueError(
                f"gate must return (B, C, T) for (B, {gate_channels}, T), got "
                f"{tuple(found.shape)} for (1, {gate_channels}, 1)"
            )
        return found.shape[1]
    if gate not in GATES:
        raise ValueError(f"gate must be {one_of(GATES)} or a function, got {gate!r}")
    if "*" not in gate:
        return gate_channels
    if gate_channels % 2:
        raise ValueError(f"gate_channels must be even for gate={gate!r}, got {gate_channels}")
    return gate_channels // 2


def _width(conv: nn.Conv1d | None) -> int | None:
    return None if conv is None else conv.in_channels


def conv1x1(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """Return the output of a 1x1 convolution of `(B, C, T)`, or of one sample, `(B, C)`."""
    result: Tensor = conv(x) if x.dim() == 3 else pointwise(conv, x)
    return result
