"""Every way of upsampling, in every backend."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.architectures import SMALL
from tests.gpu.stand_in.device import BACKENDS_HERE, sampler_here
from wavenet.config import LocalConfig
from wavenet.model import WaveNet
from wavenet.modules.upsampling import UPSAMPLERS
from wavenet.sampling import Sampler, make_sampler

OPTIONS: dict[str, dict[str, Any]] = {
    "transposed": {"upsample_frames": 4},
    "bands": {"freq_axis_kernel_size": 5},
}


def conditioned_model(upsample: Any) -> WaveNet:
    torch.manual_seed(0)
    local = LocalConfig(
        in_channels=3,
        channels=4,
        upsample_scales=(4, 5),
        upsample=upsample,
        lookahead=1,
        **OPTIONS.get(upsample, {}),
    )
    model = WaveNet(dataclasses.replace(SMALL, local=local))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1 if "upsampling" in name else 0.3)
    return model


@pytest.mark.parametrize("upsample", sorted(UPSAMPLERS))
def test_frames_in_pieces_change_no_bit(upsample: str) -> None:
    model, frames = conditioned_model(upsample), torch.randn(2, 3, 100)
    sampler = make_sampler(model, "cpu")
    prompt = torch.rand(2, 130) * 2 - 1

    state = sampler.init_state(2, prompt, seed=4, local=frames[..., :40], more=True)
    pieces = []
    for first in range(40, 100, 12):
        sampler.push_frames(state, frames[..., first : first + 12], more=first + 12 < 100)
        pieces.append(sampler.generate_next(state, sampler.samples_available(state) or 0))

    whole = sampler.generate(batch_size=2, prompt=prompt, seed=4, local=frames)
    assert whole.shape == (2, 100 * 20 - 130)
    assert torch.equal(torch.cat(pieces, dim=1), whole)


@pytest.mark.parametrize("backend", BACKENDS_HERE)
@pytest.mark.parametrize("upsample", sorted(UPSAMPLERS))
def test_teacher_forced_parameters_equal_forward_given_frames(upsample: str, backend: str) -> None:
    model, frames = conditioned_model(upsample), torch.randn(2, 3, 20)
    waveform = torch.rand(2, 20 * 20) * 2 - 1

    params = sampler_here(model, backend).teacher_forced(waveform, local=frames)

    with torch.no_grad():
        expected = model(waveform, local=frames)
    torch.testing.assert_close(params, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "generate",
    [
        lambda sampler, frames: sampler.generate(10**6, local=frames),
        lambda sampler, frames: sampler.generate_ragged([7, 10**6], local=frames),
        lambda sampler, frames: next(sampler.stream(10**6, local=frames)),
    ],
)
def test_a_request_beyond_the_frames_is_refused_as_it_was_made(
    generate: Callable[[Sampler, Tensor], object],
) -> None:
    sampler, frames = make_sampler(conditioned_model("nearest"), "reference"), torch.zeros(1, 3, 4)

    with pytest.raises(ValueError, match="frames cover 80 samples, but 1000000 are requested"):
        generate(sampler, frames)
