"""A stack of gated residual blocks over a list of dilations.

Dilations that double from block to block make the receptive field grow exponentially with depth.
The options cover the stacks that other projects build from the same block: non-causal, masked, with
one conditioning for all blocks, or with a diffusion step.

WaveNet, sections 2.1 and 2.3 to 2.5 (arXiv:1609.03499).
"""

from collections.abc import Iterator, Sequence
from typing import Literal, cast, get_args

from torch import Tensor, nn

from wavenet.modules.checks import (
    check_batch,
    check_dtype,
    check_finite_numbers,
    check_input,
    check_position,
    check_signal,
    check_sizes,
    check_step_is_whole,
    check_tensor,
    one_of,
    whole_numbers,
)
from wavenet.modules.conv import CausalConv1d
from wavenet.modules.fusable import (
    has_global_hooks,
    has_one_precision,
    is_faster_by_loop,
    is_standard,
    is_transformed,
    standard_weights,
)
from wavenet.modules.fused_inputs import fused_forward
from wavenet.modules.residual_block import DropoutAt, Gate, ResidualBlock, conv1x1
from wavenet.modules.rows import GatedActivation, MakeGatedActivation, Matmul, matmul
from wavenet.modules.stack_weights import StackSpec, StackWeights
from wavenet.modules.streaming import StackStream, check_forward

Output = Literal["skip", "residual", "both"]


class ResidualStack(nn.Module):
    """`ResidualBlock`s one after the other; the output is the sum of their skip outputs.

    WaveNet, sections 2.1 and 2.3 to 2.5 (arXiv:1609.03499); the options are other projects'.

    Args:
        dilations: Samples between taps, 1 or more, one entry per block.
        residual_channels: Width from block to block.
        gate_channels: Width of the dilated convolutions; even for gates of two halves.
        skip_channels: Width of the skip sum; 0 for `output="residual"`.
        kernel_size: Taps of the dilated convolutions, 1 or more; one number or one per block.
        in_channels: Width of the input; `residual_channels` if it is left out.
        causal: Look back only, as generation needs; otherwise to both sides, with the same length.
        bias: Whether the convolutions have biases.
        gate: See `ResidualBlock`.
        dropout: Probability of dropping a value in training, 0 to 1.
        dropout_at: `input` of the dilated convolution, `before_gate` or `gate`, its output.
        residual_scale: Factor on each block's sum of input and residual.
        skip_scale: Factor on the sum of the skips.
        output: `skip` (sum of the skips), `residual` (of the last block), or `both`, as a tuple.
        conditioning_channels: Width of the conditioning; 0 for none.
        shared_conditioning: Project the conditioning of all blocks by one 1x1 convolution.
        step_channels: Width of a vector per item, such as the embedding of a diffusion step.
        film_channels: Width of what scales and shifts the inputs of the gates; 0 for none.

    The options are fixed when the stack is built, except for `skip_scale`: to set `dropout` or
    `residual_scale` of a stack later has no effect, its blocks have their own. These may be set:

    Attributes:
        skip_scale: Factor on the sum of the skips, see above.
        fused: Compute standard blocks as one function where that is possible and faster.
        gated_activation: Implementation of the gates in the fused stack.
        matmul: Implementation of the matrix products in the fused stack.
        checkpoint_activations: The fused stack saves memory: its backward pass recomputes gates.

    Shape:
        - Input: `(B, in_channels, T)`; the others are those of `ResidualBlock`
        - Output: `(B, skip_channels, T)`, `(B, residual_channels, T)`, or (residual, skip)

    Raises:
        ValueError: Options that do not go together; inputs that are missing, unused or misshaped.
    """

    def __init__(
        self,
        dilations: Sequence[int],
        residual_channels: int,
        gate_channels: int,
        skip_channels: int,
        kernel_size: int | Sequence[int] = 2,
        *,
        in_channels: int | None = None,
        causal: bool = True,
        bias: bool = True,
        gate: Gate = "tanh*sigmoid",
        dropout: float = 0.0,
        dropout_at: DropoutAt = "input",
        residual_scale: float = 1.0,
        skip_scale: float = 1.0,
        output: Output = "skip",
        conditioning_channels: int = 0,
        shared_conditioning: bool = False,
        step_channels: int = 0,
        film_channels: int = 0,
    ) -> None:
        super().__init__()
        self.dilations = dilations = whole_numbers("dilations", dilations, least=1)
        kernel_sizes = _per_block(kernel_size, len(dilations))
        _check_options(output, skip_channels, conditioning_channels, shared_conditioning)
        check_finite_numbers(skip_scale=skip_scale)
        self.causal = causal
        self.dropout = dropout
        self.residual_scale = residual_scale
        self.skip_scale = skip_scale
        self.output = output
        self.fused = True
        self.gated_activation: MakeGatedActivation = GatedActivation
        self.matmul: Matmul = matmul
        self.checkpoint_activations = False
        last = len(dilations) - 1
        self.blocks = nn.ModuleList(
            ResidualBlock(
                residual_channels,
                gate_channels,
                skip_channels,
                kernel_sizes[index],
                dilation,
                in_channels=in_channels if index == 0 else None,
                causal=causal,
                bias=bias,
                gate=gate,
                dropout=dropout,
                dropout_at=dropout_at,
                residual_scale=residual_scale,
                last=index == last and output == "skip",
                conditioning_channels=0 if shared_conditioning else conditioning_channels,
                step_channels=step_channels,
                film_channels=film_channels,
            )
            for index, dilation in enumerate(dilations)
        )
        self.conditioning_conv = None
        if shared_conditioning:
            width = gate_channels * len(dilations)
            self.conditioning_conv = nn.Conv1d(conditioning_channels, width, 1)

    def forward(
        self,
        x: Tensor,
        conditioning: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        step_embedding: Tensor | None = None,
        film: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return the output; `mask` multiplies each residual output and the sum of the skips."""
        check_input(x)
        check_tensor("mask", mask)
        is_fusable = self.fused and film is None and not (mask is not None and mask.requires_grad)
        inputs = x, conditioning, mask, step_embedding
        if is_fusable and (weights := self.fusable_weights(*inputs)) is not None:
            blocks, shared = self._blocks(), self.conditioning_conv
            return fused_forward(*inputs, blocks, shared, self._fused_spec(), weights)
        if mask is not None:
            check_signal("mask", mask, 1, x)
            mask = mask.to(x.dtype)
        extras = {} if mask is None else {"mask": mask}
        skips: Tensor | None = None
        for block, own, others in self._blocks_with_inputs(x, conditioning, step_embedding, film):
            x, skip = block(x, own, **others, **extras)
            skips = _add(skips, skip)
        return self._output(x, skips if skips is None or mask is None else skips * mask)

    def new_queues(self, batch_size: int) -> list[Tensor]:
        """Return the silence before the first sample, one queue per block; causal stacks only.

        Raises:
            ValueError: There are hooks, or a `forward`, that `step` would leave out.
        """
        check_step_is_whole(self)
        return [block.new_queue(batch_size) for block in self._blocks()]

    def prefill(
        self,
        queues: list[Tensor],
        x: Tensor,
        position: int,
        conditioning: Tensor | None = None,
        *,
        step_embedding: Tensor | None = None,
        film: Tensor | None = None,
    ) -> None:
        """Store the end of every block's input in its queue, fresh from `new_queues`.

        `position` is the number of samples before the next step: `x`, `(B, C, T)`, ends at sample
        `position - 1`. It starts at sample 0, or later if it holds as many samples as all queues
        together; what the queues held before is not read.

        Raises:
            ValueError: `x` has fewer samples, such as a later piece of a signal, more than
                `position`, or another batch size than the queues.
        """
        check_input(x)
        self._check_queues(queues)
        check_position(position)
        for queue in queues:
            check_batch(x, queue)
        past = sum(queue.shape[-1] for queue in queues)
        if x.shape[-1] < min(position, past):
            raise ValueError(
                f"x must have {min(position, past)} samples or more, up to sample {position - 1}, "
                f"got {x.shape[-1]}: prefill with the whole past in one call"
            )
        blocks = self._blocks_with_inputs(x, conditioning, step_embedding, film)
        for (block, own, others), queue in zip(blocks, queues, strict=True):
            x = block.prefill(queue, x, position, own, **others)

    def step(
        self,
        x: Tensor,
        queues: list[Tensor],
        position: int,
        conditioning: Tensor | None = None,
        *,
        step_embedding: Tensor | None = None,
        film: Tensor | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return output sample `position`, `(B, C)`; arguments as `forward`, for one sample."""
        check_tensor("the input of a step", x)
        if x.dim() != 2:
            wanted = f"(B, {self._blocks()[0].conv.in_channels})"
            raise ValueError(f"the input of a step must be {wanted}, got {tuple(x.shape)}")
        self._check_queues(queues)
        skips: Tensor | None = None
        blocks = self._blocks_with_inputs(x, conditioning, step_embedding, film)
        for (block, own, others), queue in zip(blocks, queues, strict=True):
            x, skip = block.step(x, queue, position, own, **others)
            skips = _add(skips, skip)
        return self._output(x, skips)

    def stream(self) -> StackStream:
        """Return what computes the stack chunk by chunk, also a non-causal one.

        Raises:
            ValueError: A block was changed in more than its `activation`.
        """
        check_forward("the stack", self, ResidualStack)
        return StackStream(self._blocks(), self.conditioning_conv, self._output)

    def fusable_weights(self, x: Tensor, *others: Tensor | None) -> StackWeights | None:
        """Return the weights for the fused stack; `None` where the loop is to run."""
        standard = self.output == "skip" and is_standard(self.conditioning_conv)
        if not standard or is_transformed(x, *others) or has_global_hooks() or not len(x):
            return None
        blocks = self._blocks()
        scales = self.skip_scale, self.residual_scale, *(block.residual_scale for block in blocks)
        if any(isinstance(scale, Tensor) for scale in scales):  # they may need a gradient
            return None
        weights = standard_weights(
            blocks,
            self.dilations,
            dropout=self.dropout,
            residual_scale=self.residual_scale,
            training=self.training,
        )
        is_fast = self.checkpoint_activations or self.matmul is not matmul
        if weights is None or (not is_fast and is_faster_by_loop(x, blocks[0])):
            return None
        modules = self.conditioning_conv, *(block.step_projection for block in blocks)
        signals = x, *others[:1], *others[2:]  # the mask is cast
        return weights if has_one_precision(weights, modules, *signals) else None

    def _fused_spec(self) -> StackSpec:
        return StackSpec(
            dilations=self.dilations,
            causal=isinstance(self._blocks()[0].conv, CausalConv1d),
            dropout=self.dropout if self.training else 0.0,
            residual_scale=self.residual_scale,
            skip_scale=self.skip_scale,
            gated_activation=self.gated_activation,
            matmul=self.matmul,
            checkpoint_activations=self.checkpoint_activations,
        )

    def _blocks_with_inputs(
        self,
        x: Tensor,
        conditioning: Tensor | None,
        step_embedding: Tensor | None,
        film: Tensor | None,
    ) -> Iterator[tuple[ResidualBlock, Tensor | None, dict[str, Tensor]]]:
        """Yield each block, its conditioning, and by name what else is there for it."""
        optional = {"step_embedding": step_embedding, "film": film}
        others = {name: value for name, value in optional.items() if value is not None}
        if self.conditioning_conv is None:
            for block in self._blocks():
                yield block, conditioning, others
            return
        check_signal("conditioning", conditioning, self.conditioning_conv.in_channels, x)
        assert conditioning is not None  # by check_signal
        check_dtype(conditioning, self.conditioning_conv, "conditioning")
        projected = conv1x1(self.conditioning_conv, conditioning)
        parts = projected.chunk(len(self.blocks), dim=1)
        for block, part in zip(self._blocks(), parts, strict=True):
            yield block, None, {"projected": part, **others}

    def _check_queues(self, queues: Sequence[Tensor]) -> None:
        if len(queues) != len(self.blocks):
            raise ValueError(
                f"queues must be those of {len(self.blocks)} blocks, got {len(queues)}: begin with "
                "new_queues"
            )

    def _output(self, x: Tensor, skips: Tensor | None) -> Tensor | tuple[Tensor, Tensor]:
        if skips is None or self.output == "residual":
            return x
        skips = skips * self.skip_scale
        return skips if self.output == "skip" else (x, skips)

    def _blocks(self) -> list[ResidualBlock]:
        return cast("list[ResidualBlock]", list(self.blocks))


def _add(total: Tensor | None, part: Tensor | None) -> Tensor | None:
    return part if total is None or part is None else total + part


def _per_block(kernel_size: int | Sequence[int], count: int) -> Sequence[int]:
    """Return the kernel size of each of `count` blocks."""
    if not count:
        raise ValueError("dilations must have one entry per block, got none")
    if hasattr(kernel_size, "__index__") and not hasattr(kernel_size, "__len__"):
        kernel_size = [kernel_size] * count
    kernel_sizes = whole_numbers("kernel_size", kernel_size, least=1)
    if len(kernel_sizes) != count:
        raise ValueError(
            f"kernel_size must be one number or one per block, {count}, got {len(kernel_sizes)}"
        )
    return kernel_sizes


def _check_options(
    output: str, skip_channels: int, conditioning_channels: int, shared_conditioning: bool
) -> None:
    if output not in get_args(Output):
        raise ValueError(f"output must be {one_of(get_args(Output))}, got {output!r}")
    check_sizes(0, skip_channels=skip_channels, conditioning_channels=conditioning_channels)
    if (skip_channels == 0) != (output == "residual"):
        raise ValueError(
            f"skip_channels={skip_channels} does not go with output={output!r}: it is 0 for "
            "'residual', and positive for 'skip' and 'both'"
        )
    if shared_conditioning and not conditioning_channels:
        raise ValueError("shared_conditioning=True needs conditioning_channels=, its width")
