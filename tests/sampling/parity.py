"""How a backend is compared with the reference, which defines the signal."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from wavenet.config import WaveNetConfig
from wavenet.distributions import Mixture, SamplingConfig
from wavenet.model import WaveNet
from wavenet.sampling import Sampler, SamplerState
from wavenet.sampling.state import uniforms
from wavenet.utils.errors import CheckpointError

DRAWS = [
    SamplingConfig(),
    SamplingConfig(temperature=0),
    SamplingConfig(temperature=0.7),
    SamplingConfig(top_k=3),
    SamplingConfig(top_p=0.8),
    SamplingConfig(temperature=1.3, top_k=5, top_p=0.9),
    SamplingConfig(probability_floor=0.02),  # less than one in 40 classes
]
BORDER = 1e-5  # a draw may fall on either side of a border that is this near


def noisy(config: WaveNetConfig, seed: int = 0) -> WaveNet:
    """A model whose outputs differ from sample to sample, its biases not zero."""
    torch.manual_seed(seed)
    model = WaveNet(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def companded(companding: Any, input_type: Any) -> WaveNetConfig:
    """A small model of a companding, whose first convolution sees two samples."""
    return WaveNetConfig(
        quantization_channels=64,
        companding=companding,
        input_type=input_type,
        input_kernel_size=2,
        dilations=(1, 3),
        residual_channels=16,
        gate_channels=16,
        skip_channels=16,
        head_channels=16,
    )


def assert_nan_is_reported(output: str, build: Callable[[WaveNet], Sampler]) -> None:
    """Ask for samples of parameters that are not finite, then for a sampler of such weights."""
    classes = 16 if output == "categorical" else 65536
    config = WaveNetConfig(
        dilations=(1, 2),
        output_distribution=output,
        quantization_channels=classes,
        input_type="scalar",
    )
    model = noisy(config)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.fill_(1e30)

    with pytest.raises(CheckpointError, match="NaN or infinity"):
        build(model).generate(5)
    with torch.no_grad():
        model.head.output.weight.fill_(torch.nan)
    with pytest.raises(CheckpointError, match=r"head\.output\.weight contains NaN"):
        build(model)


def assert_same_signal(
    sampler: Sampler, reference: Sampler, length: int, prompt: Tensor | None = None, **how: Any
) -> int:
    """Compare free-running signals; return how many draws fell near a border.

    Where they part, the reference's draw must lie near a border. Both then go on from the
    reference's signal.
    """
    seed, draw = how.pop("seed", 0), how.pop("sampling", SamplingConfig())
    noise = uniforms([seed], 0, length, reference.model.distribution.num_noise)
    expected = reference.generate(length, prompt=prompt, noise=noise, sampling=draw, **how)
    known = torch.zeros(1, 0) if prompt is None else prompt
    start, parted = 0, 0
    while start < length:
        past = torch.cat([known, expected[:, :start]], dim=1)
        rest = sampler.generate(
            length - start, prompt=past, noise=noise[:, start:], sampling=draw, **how
        )
        different = (rest != expected[:, start:]).nonzero()
        if not len(different):
            break
        first = int(different[0, 1])
        start += first
        past = torch.cat([known, expected[:, :start]], dim=1)
        drawn, wanted = float(rest[0, first]), float(expected[0, start])
        state = reference.init_state(prompt=past, **how)
        near = near_border(reference, state, noise[:, start], draw, drawn, wanted)
        assert near, f"sample {start} differs"
        parted, start = parted + 1, start + 1
    return parted


def near_border(
    reference: Sampler,
    state: SamplerState,
    noise: Tensor,
    draw: SamplingConfig,
    drawn: float,
    wanted: float,
) -> bool:
    """Whether rounding may change what is drawn, or what is left to draw from."""
    distribution = reference.model.distribution
    if isinstance(distribution, Mixture):
        if abs(drawn - wanted) * 32768 <= 3:  # codes: a parameter's last digits
            return True
        steps = [noise + torch.tensor([step, 0.0][: noise.shape[1]]) for step in (-BORDER, BORDER)]
        near = [
            reference.generate_next(state.clone(), 1, draw, step.clamp(0, 1)[:, None])
            for step in steps
        ]
        return any(abs(float(other) - drawn) * 32768 <= 3 for other in near)
    draws = [
        reference.generate_next(state.clone(), 1, draw, (noise[:, None] + step).clamp(0, 1))
        for step in (-BORDER, BORDER)
    ]
    if float(min(draws)) <= drawn <= float(max(draws)):  # a class between may be narrow
        return True
    return near_truncation(logits_of(reference, state), draw)


def logits_of(reference: Sampler, state: SamplerState) -> Tensor:
    """The logits that the next class is drawn from, `(levels,)`."""
    seen: list[Tensor] = []
    distribution = reference.model.distribution
    draw = distribution.sample
    distribution.sample = lambda params, *how: (seen.append(params), draw(params, *how))[1]  # type: ignore
    try:
        reference.generate_next(state.clone(), 1)
    finally:
        del distribution.sample
    return seen[0][0].double()


def near_truncation(logits: Tensor, draw: SamplingConfig) -> bool:
    """Whether two classes are so alike that rounding may change which one is taken or left out."""
    if draw.temperature == 0:
        best = logits.topk(2).values
        return float(best[0] - best[1]) < BORDER
    ordered = (logits / draw.temperature).softmax(dim=0).sort(descending=True).values
    last = draw.top_k if draw.top_k is not None and draw.top_k < len(ordered) else None
    if last is not None and float(ordered[last - 1] - ordered[last]) < BORDER:
        return True
    return draw.top_p is not None and float((ordered.cumsum(0) - draw.top_p).abs().min()) < BORDER
