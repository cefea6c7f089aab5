"""Speed of `ResidualStack` in the shapes of other projects, against the same in plain PyTorch.

The plain form is written as the papers' formulas read: a `Conv1d` for the dilated convolution, one
for residual and skip together, and slices of their outputs. All cases run in one process on noise;
a training step is forward and backward, without an optimizer.

VITS (arXiv:2106.06103) has WaveGlow's stack (arXiv:1811.00002) with a mask and one conditioning
vector for all samples; DiffWave: arXiv:2009.09761, section 3.1.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from wavenet.benchmarks.framework import (
    Measurement,
    Timing,
    calls_per_second,
    measure_interleaved,
)
from wavenet.kernels.gated_activation import fast_gated_activation
from wavenet.kernels.row_products import fast_matmul
from wavenet.modules import ResidualStack
from wavenet.training.acceleration import keep_freed_memory

StackName = Literal["vits", "diffwave"]
BlockImplementation = Literal["textbook", "fused", "loop"]
Pass = Literal["forward", "training"]
Precision = Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True)
class BlockCase:
    """An implementation of a stack, and what it computes."""

    implementation: BlockImplementation
    computed: Pass
    precision: Precision
    device: str
    batch_size: int
    length: int

    @property
    def name(self) -> str:
        """Return its label in a chart."""
        shape = f"{self.batch_size} x {self.length}"
        return f"{self.implementation}, {self.computed}, {self.precision}, {shape}"

    def is_baseline_of(self, other: "BlockCase") -> bool:
        """Return whether this is the textbook form of the same computation."""
        same = (self.computed, self.precision) == (other.computed, other.precision)
        return same and self.implementation == "textbook"


def block_cases(
    implementations: Sequence[BlockImplementation],
    passes: Sequence[Pass],
    precisions: Sequence[Precision],
    device: str,
    batch_shape: str,
) -> list[BlockCase]:
    """Return all combinations; a shape is such as `8x500`, items and samples of each."""
    batch_size, length = map(int, batch_shape.split("x"))
    return [
        BlockCase(implementation, computed, precision, device, batch_size, length)
        for precision, computed, implementation in itertools.product(
            precisions, passes, implementations
        )
    ]


class TextbookWN(nn.Module):
    """VITS's stack in plain PyTorch; sizes are those of VITS unless given."""

    def __init__(self, channels: int = 192, blocks: int = 16, kernel_size: int = 5) -> None:
        super().__init__()
        self.channels = channels
        self.conditioning = nn.Conv1d(256, 2 * channels * blocks, 1)
        self.convs = nn.ModuleList(
            nn.Conv1d(channels, 2 * channels, kernel_size, padding=kernel_size // 2)
            for _ in range(blocks)
        )
        widths = [2 * channels] * (blocks - 1) + [channels]
        self.outputs = nn.ModuleList(nn.Conv1d(channels, width, 1) for width in widths)

    def forward(self, x: Tensor, conditioning: Tensor, mask: Tensor) -> Tensor:
        """Return the sum of the skips; all are `(B, C, T)`, the conditioning of one sample."""
        skips, width = torch.zeros_like(x), self.channels
        parts = self.conditioning(conditioning).split(2 * width, dim=1)
        for conv, output, part in zip(self.convs, self.outputs, parts, strict=True):
            y = conv(x) + part
            z = torch.tanh(y[:, :width]) * torch.sigmoid(y[:, width:])
            both = output(z)
            if both.shape[1] == width:
                skips = skips + both
            else:
                x = (x + both[:, :width]) * mask
                skips = skips + both[:, width:]
        return skips * mask


class TextbookDiffWave(nn.Module):
    """DiffWave's stack in plain PyTorch; sizes are those of DiffWave unless given."""

    def __init__(self, channels: int = 64, blocks: int = 30, cycle: int = 10) -> None:
        super().__init__()
        self.channels = channels
        dilations = [2 ** (block % cycle) for block in range(blocks)]
        self.convs = nn.ModuleList(
            nn.Conv1d(channels, 2 * channels, 3, padding=dilation, dilation=dilation)
            for dilation in dilations
        )
        self.steps = nn.ModuleList(nn.Linear(512, channels) for _ in dilations)
        self.conditionings = nn.ModuleList(nn.Conv1d(80, 2 * channels, 1) for _ in dilations)
        self.outputs = nn.ModuleList(nn.Conv1d(channels, 2 * channels, 1) for _ in dilations)

    def forward(self, x: Tensor, conditioning: Tensor, step_embedding: Tensor) -> Tensor:
        """Return the sum of the skips, `(B, C, T)`; the embedding is `(B, 512)`."""
        skips, width = torch.zeros_like(x), self.channels
        blocks = zip(self.convs, self.steps, self.conditionings, self.outputs, strict=True)
        for conv, step, project, output in blocks:
            y = conv(x + step(step_embedding).unsqueeze(-1)) + project(conditioning)
            z = torch.sigmoid(y[:, :width]) * torch.tanh(y[:, width:])
            both = output(z)
            x = (x + both[:, :width]) / 2**0.5
            skips = skips + both[:, width:]
        mean: Tensor = skips / len(self.convs) ** 0.5
        return mean


def textbook_stack(name: StackName) -> nn.Module:
    """Return a stack in plain PyTorch."""
    return TextbookWN() if name == "vits" else TextbookDiffWave()


def residual_stack(textbook: nn.Module) -> ResidualStack:
    """Return the `ResidualStack` of the same form and sizes; its weights are its own."""
    if isinstance(textbook, TextbookWN):
        width, conv = textbook.channels, textbook.convs[0]
        assert isinstance(conv, nn.Conv1d)
        return ResidualStack(
            [1] * len(textbook.convs),
            *(width, 2 * width, width),
            conv.kernel_size[0],
            causal=False,
            conditioning_channels=256,
            shared_conditioning=True,
        )
    assert isinstance(textbook, TextbookDiffWave)
    width, count = textbook.channels, len(textbook.convs)
    return ResidualStack(
        [conv.dilation[0] for conv in textbook.convs if isinstance(conv, nn.Conv1d)],
        *(width, 2 * width, width, 3),
        causal=False,
        gate="sigmoid*tanh",
        conditioning_channels=80,
        step_channels=512,
        residual_scale=0.5**0.5,
        skip_scale=count**-0.5,
    )


def stack_inputs(textbook: nn.Module, batch_size: int, length: int) -> dict[str, Tensor]:
    """Return noise for all inputs of a stack; lengths of masked items differ."""
    if isinstance(textbook, TextbookWN):
        lengths = torch.linspace(0.6 * length, length, batch_size).view(-1, 1, 1)
        return {
            "x": torch.randn(batch_size, textbook.channels, length),
            "conditioning": torch.randn(batch_size, 256, 1),
            "mask": (torch.arange(length) < lengths).float(),
        }
    assert isinstance(textbook, TextbookDiffWave)
    return {
        "x": torch.randn(batch_size, textbook.channels, length),
        "conditioning": torch.randn(batch_size, 80, length),
        "step_embedding": torch.randn(batch_size, 512),
    }


def measure_blocks(
    textbook: nn.Module,
    cases: Sequence[BlockCase],
    repeats: int,
    seconds: float,
    description: str = "blocks",
) -> list[Measurement[BlockCase]]:
    """Return the speed of each case of a stack.

    Args:
        textbook: The stack in plain PyTorch.
        cases: What is measured.
        repeats: Measurements of each case.
        seconds: Time of one measurement, at least one call.
        description: For the progress bar.
    """
    keep_freed_memory()
    modules: dict[str, nn.Module] = {"textbook": textbook}
    for implementation in ("fused", "loop"):
        stack = modules[implementation] = residual_stack(textbook)
        stack.fused = implementation == "fused"
        stack.gated_activation, stack.matmul = fast_gated_activation, fast_matmul()
    calls = [_make_call(modules[case.implementation], textbook, case) for case in cases]
    for call in calls:
        call()  # allocates memory, and may compile

    def measure_all(repeat: int) -> Iterator[Timing]:
        for case, call in zip(cases, calls, strict=True):
            rate = calls_per_second(call, case.device, seconds)
            yield Timing(rate * case.batch_size * case.length)

    return measure_interleaved(cases, measure_all, repeats, description)


def _make_call(module: nn.Module, textbook: nn.Module, case: BlockCase) -> Callable[[], None]:
    """Return a function that computes a case once."""
    module.to(case.device)
    inputs = {
        name: tensor.to(case.device)
        for name, tensor in stack_inputs(textbook, case.batch_size, case.length).items()
    }
    is_training = case.computed == "training"
    inputs["x"].requires_grad_(is_training)  # a stack's input comes from other layers
    autocast = case.precision == "bf16-mixed"

    def call() -> None:
        with torch.set_grad_enabled(is_training):
            with torch.autocast(case.device, torch.bfloat16, enabled=autocast):
                y = module(**inputs)
            if is_training:
                y.float().square().mean().backward()
                module.zero_grad()
                inputs["x"].grad = None

    return call
