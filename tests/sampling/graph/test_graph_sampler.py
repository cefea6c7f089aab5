"""The step as tensor operations compared with the reference, which defines it."""

import os
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.architectures import conditions_for, configs
from tests.sampling.parity import DRAWS, noisy
from wavenet.config import WaveNetConfig
from wavenet.sampling import make_sampler

EXAMPLES = 500 if os.environ.get("WAVENET_FULL") else 40


def start_of(data: st.DataObject, config: WaveNetConfig, batch_size: int) -> dict[str, Any]:
    """Any prompt, conditioning and guidance for a model in float64, for 20 samples."""
    length = data.draw(st.integers(0, 2 * config.receptive_field))
    start: dict[str, Any] = conditions_for(config, batch_size, length + 20, torch.float64)
    start["prompt"] = torch.rand(batch_size, length, dtype=torch.float64) * 2 - 1
    if config.has_global_conditioning:
        start["guidance_scale"] = data.draw(st.sampled_from([1.0, 2.5]))
    return start


@settings(max_examples=EXAMPLES)
@given(config=configs(), batch_size=st.integers(1, 4), data=st.data(), seed=st.integers(0, 2**32))
def test_any_architecture_equals_the_reference(
    config: WaveNetConfig, batch_size: int, data: st.DataObject, seed: int
) -> None:
    model = noisy(config, seed).double()  # rounding is too small to decide a draw
    sampler, reference = make_sampler(model, "graph"), make_sampler(model, "reference")
    waveform = torch.rand(batch_size, 70, dtype=torch.float64) * 2 - 1
    conditions = conditions_for(config, batch_size, 70, torch.float64)
    torch.testing.assert_close(
        sampler.teacher_forced(waveform, **conditions),
        reference.teacher_forced(waveform, **conditions),
        rtol=1e-9,
        atol=1e-9,
    )

    start = start_of(data, config, batch_size)
    is_categorical = config.output_distribution == "categorical"
    sampling = data.draw(st.sampled_from(DRAWS if is_categorical else DRAWS[:3]))
    how: dict[str, Any] = {"batch_size": batch_size, "seed": seed, "sampling": sampling}
    signal = reference.generate(20, **start, **how)

    assert torch.equal(sampler.generate(20, **start, **how), signal)
    chunks = list(sampler.stream(20, chunk=data.draw(st.integers(1, 9)), **start, **how))
    assert torch.equal(torch.cat(chunks, dim=1), signal)
