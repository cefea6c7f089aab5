"""The compiled sampler beside the reference, which defines it."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.architectures import configs
from wavenet.config import WaveNetConfig
from wavenet.distributions import Draw
from wavenet.model import WaveNet
from wavenet.sampling import PRECISIONS, Sampler, available_cores, make_sampler
from wavenet.sampling.noise import uniforms

DRAWS = [
    Draw(),
    Draw(temperature=0),
    Draw(temperature=0.7),
    Draw(top_k=3),
    Draw(top_p=0.8),
    Draw(temperature=1.3, top_k=5, top_p=0.9),
]
THREADS = [1, 2][: available_cores()]
BORDER = 1e-5  # a draw may fall on either side of a class border that is this near


def noisy(config: WaveNetConfig, seed: int = 0) -> WaveNet:
    """A model whose outputs differ from sample to sample, its biases not zero."""
    torch.manual_seed(seed)
    model = WaveNet(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def assert_same_signal(
    sampler: Sampler, reference: Sampler, length: int, prompt: Tensor | None = None, **how: Any
) -> int:
    """Compare free-running signals; return how many draws fell near a class border.

    Where they part, the reference's draw must lie near a border. Both then go on from the
    reference's signal.
    """
    seed, draw = how.get("seed", 0), how.get("draw", Draw())
    noise = uniforms([seed], 0, length)
    expected = reference.generate(length, prompt=prompt, noise=noise, draw=draw)
    known = torch.zeros(1, 0) if prompt is None else prompt
    start, parted = 0, 0
    while start < length:
        past = torch.cat([known, expected[:, :start]], dim=1)
        rest = sampler.generate(length - start, prompt=past, noise=noise[:, start:], draw=draw)
        different = (rest != expected[:, start:]).nonzero()
        if not len(different):
            break
        start += int(different[0, 1])
        past = torch.cat([known, expected[:, : start + 1]], dim=1)
        logits = reference.parameters(past)[0, :, -1].double()
        assert near_border(logits, float(noise[0, start]), draw), f"sample {start} differs"
        parted, start = parted + 1, start + 1
    return parted


def near_border(logits: Tensor, noise: float, draw: Draw) -> bool:
    """Whether rounding may change the class drawn, or which classes are left to draw from."""
    if draw.temperature == 0:
        best = logits.topk(2).values
        return float(best[0] - best[1]) < BORDER
    weights = ((logits - logits.max()) / draw.temperature).softmax(dim=0)
    ordered = weights.sort(descending=True).values
    last = draw.top_k if draw.top_k is not None and draw.top_k < len(ordered) else None
    if last is not None and float(ordered[last - 1] - ordered[last]) < BORDER:
        return True
    if draw.top_p is not None and float((ordered.cumsum(0) - draw.top_p).abs().min()) < BORDER:
        return True
    if draw.top_k is not None or draw.top_p is not None:
        kept = ordered.cumsum(0) - ordered < (draw.top_p or 1.0)
        kept[draw.top_k or len(kept) :] = False
        weights = weights * (weights >= ordered[kept].min())
        weights = weights / weights.sum()
    return float((weights.cumsum(0) - noise).abs().min()) < BORDER


@pytest.mark.slow
@settings(max_examples=500)
@given(config=configs(), batch_size=st.integers(1, 5), data=st.data(), seed=st.integers(0, 2**32))
def test_any_architecture_is_the_reference(
    config: WaveNetConfig, batch_size: int, data: st.DataObject, seed: int
) -> None:
    model = noisy(config, seed)
    prompt_length = data.draw(st.integers(0, 2 * config.receptive_field))
    draw = data.draw(st.sampled_from(DRAWS))
    prompt = torch.rand(batch_size, prompt_length) * 2 - 1
    reference = make_sampler(model, "reference")
    sampler = make_sampler(model, "cpu", threads=data.draw(st.sampled_from(THREADS)))

    waveform = torch.rand(batch_size, 70) * 2 - 1  # past the slack of the queues
    torch.testing.assert_close(
        sampler.parameters(waveform), reference.parameters(waveform), rtol=0, atol=1e-4
    )

    signal = sampler.generate(20, batch_size=batch_size, prompt=prompt, seed=seed, draw=draw)
    for item in range(batch_size):
        its_prompt, its_seed = prompt[item : item + 1], seed + item
        alone = sampler.generate(20, prompt=its_prompt, seed=its_seed, draw=draw)
        assert torch.equal(signal[item], alone[0])
        assert_same_signal(sampler, reference, 20, its_prompt, seed=its_seed, draw=draw)


@pytest.mark.slow
def test_a_long_signal_is_the_references() -> None:
    config = WaveNetConfig(
        dilations=(1, 2, 4, 8, 16, 32, 64), residual_channels=16, gate_channels=32
    )
    model = noisy(config)

    parted = assert_same_signal(
        make_sampler(model, "cpu"), make_sampler(model, "reference"), 20_000, seed=1
    )

    assert parted <= 5


def test_16_bit_scalar_input_is_the_references() -> None:
    config = WaveNetConfig(levels=65536, input="scalar", input_kernel_size=2, dilations=(1, 3))
    model = WaveNet(config)

    assert_same_signal(make_sampler(model, "cpu"), make_sampler(model, "reference"), 30)


def test_small_gates_keep_their_digits() -> None:
    model = noisy(WaveNetConfig(dilations=(1, 2), bias=False))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("conv.weight"):
                parameter.mul_(1e-6)
            elif name.endswith("skip.weight"):
                parameter.mul_(1e6)
    waveform = torch.rand(1, 30) * 2 - 1

    params = make_sampler(model, "cpu").parameters(waveform)

    expected = make_sampler(model, "reference").parameters(waveform)
    assert float((params - expected).abs().max() / expected.std()) < 1e-4


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 13])
@pytest.mark.parametrize("threads", THREADS)
def test_batch_threads_and_chunks_change_no_bit(
    precision: str, batch_size: int, threads: int
) -> None:
    config = WaveNetConfig(
        dilations=(1, 2, 4, 30, 97), residual_channels=40, gate_channels=90, skip_channels=200
    )
    model = noisy(config)
    alone = make_sampler(model, "cpu", precision=precision)
    sampler = make_sampler(model, "cpu", threads=threads, precision=precision)
    prompt = torch.rand(batch_size, 50) * 2 - 1

    chunks = list(sampler.stream(150, chunk=37, batch_size=batch_size, prompt=prompt, seed=4))

    for item, signal in enumerate(torch.cat(chunks, dim=1)):
        expected = alone.generate(150, prompt=prompt[item : item + 1], seed=4 + item)
        assert torch.equal(signal, expected[0])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_state_goes_through_its_plain_form_without_a_change(precision: str) -> None:
    config = WaveNetConfig(dilations=(1, 2, 40), residual_channels=24, input_kernel_size=3)
    sampler = make_sampler(noisy(config), "cpu", precision=precision)
    state = sampler.start(2, torch.rand(30) * 2 - 1)
    sampler.advance(state, 101)
    clone = state.clone()
    clone.model = clone.model.plain()

    assert torch.equal(sampler.advance(clone, 80), sampler.advance(state, 80))


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.1), ("int8", 0.15)])
def test_lower_precision_is_near(precision: str, tolerance: float) -> None:
    config = WaveNetConfig(dilations=(1, 2, 4, 8), residual_channels=64)
    torch.manual_seed(0)
    model = WaveNet(config)
    waveform = torch.rand(2, 200) * 2 - 1

    params = make_sampler(model, "cpu", precision=precision).parameters(waveform)

    exact = make_sampler(model, "reference").parameters(waveform)
    error = (params - exact).abs().max()
    assert 0 < error < tolerance * exact.std()
