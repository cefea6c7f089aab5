"""Upsampling stages, against their formulas and against what other projects computed."""

import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.architectures import local_configs, raise_above_relu
from wavenet.config import LocalConfig
from wavenet.interop import read_torch, state_dict_of
from wavenet.modules import LocalConditioner
from wavenet.modules.upsampling import (
    UPSAMPLERS,
    BandsUpsample,
    CenteredUpsample,
    NearestUpsample,
    SharedUpsample,
    TransposedUpsample,
    Upsample,
    build_upsample,
)

GOLDEN = Path(__file__).parent.parent / "interop" / "golden"


def random_stage(stage: Upsample) -> Upsample:
    for weight in stage.parameters():
        nn.init.normal_(weight)
    return stage.double()


@pytest.mark.parametrize(("kind", "before"), [(NearestUpsample, 2), (CenteredUpsample, 1)])
@pytest.mark.parametrize("scale", [1, 2, 5])
def test_smoothing_is_a_sum_over_repeated_frames(
    kind: type[NearestUpsample], before: int, scale: int
) -> None:
    stage, x = kind(3, scale), torch.randn(2, 3, 6, dtype=torch.float64)
    random_stage(stage)
    y, kernel = stage(x), stage.smoothing.weight[0, 0]

    for t in range(6 * scale):
        expected = torch.zeros(2, 3, dtype=torch.float64)
        for tap in range(2 * scale + 1):
            seen = t + tap - before * scale
            if 0 <= seen < 6 * scale:
                expected += kernel[tap] * x[..., seen // scale]
        torch.testing.assert_close(y[..., t], expected)


@pytest.mark.parametrize("num_frames", [1, 2, 4])
def test_transposed_output_is_a_sum_over_its_frames(num_frames: int) -> None:
    scale, x = 3, torch.randn(2, 4, 6, dtype=torch.float64)
    stage = TransposedUpsample(4, scale, num_frames)
    random_stage(stage)
    y, (weight, bias) = stage(x), stage.parameters()

    assert stage.past == num_frames - 1
    for n in range(6):
        for r in range(scale):
            expected = bias.expand(2, 4)
            for j in range(min(num_frames, n + 1)):
                expected = expected + x[..., n - j] @ weight[..., j * scale + r]
            torch.testing.assert_close(y[..., n * scale + r], expected)


def test_shared_output_is_its_frame_by_a_factor_of_each_repeat() -> None:
    stage, x = SharedUpsample(3, 5), torch.randn(2, 3, 6, dtype=torch.float64)
    assert torch.equal(stage.double()(x), x.repeat_interleave(5, dim=-1))  # at first
    random_stage(stage)
    assert [tuple(weight.shape) for weight in stage.parameters()] == [(1, 1, 5), (1,)]

    y, (factors, bias) = stage(x).unflatten(-1, (6, 5)), stage.parameters()

    for r in range(5):
        torch.testing.assert_close(y[..., r], x * factors[0, 0, r] + bias)
    transposed = nn.functional.conv_transpose1d(x.view(6, 1, 6), factors, bias, stride=5)
    torch.testing.assert_close(y.flatten(-2), transposed.view(2, 3, 30))


@pytest.mark.parametrize("size", [1, 3, 7])
def test_bands_output_is_a_sum_over_neighboring_channels(size: int) -> None:
    channels, scale, x = 5, 3, torch.randn(2, 5, 4, dtype=torch.float64)
    stage = BandsUpsample(channels, scale, size)
    random_stage(stage)
    y, (weight, bias) = stage(x), stage.parameters()

    assert weight.shape == (1, 1, size, scale)
    assert not (y < 0).any()
    for c in range(channels):
        for r in range(scale):
            expected = bias.expand(2, 4)
            for j in range(size):
                band = c + (size - 1) // 2 - j
                if 0 <= band < channels:
                    expected = expected + weight[0, 0, j, r] * x[:, band]
            torch.testing.assert_close(y[:, c, r::scale], expected.clamp_min(0))


@pytest.mark.parametrize(
    ("scales", "frames"),
    [((16,), 1), ((16, 16), 2), ((4, 4, 4, 4), 2), ((4, 5, 3, 5), 2), ((1, 1, 1), 3), ((2, 1), 2)],
)
def test_centered_upsampling_sees_frames_ahead_in_every_stage(
    scales: tuple[int, ...], frames: int
) -> None:
    conditioner = LocalConditioner(2, 2, scales, "centered", lookahead=1).double()
    x, hop = torch.randn(1, 2, 12, dtype=torch.float64), math.prod(scales)
    other = x.clone()
    other[..., 6] += 1

    with torch.no_grad():
        changed = (conditioner(x) - conditioner(other)).abs().sum(1)[0].nonzero()

    assert conditioner.lookahead == 1 + frames
    assert changed.min() // hop == 6 - conditioner.lookahead
    assert changed.max() // hop == 6 + conditioner.past


def test_centered_upsampling_is_nearest_one_stage_input_earlier() -> None:
    torch.manual_seed(0)
    nearest = LocalConditioner(2, 3, (5,), "nearest", kernel_size=2).double()
    centered = LocalConditioner(2, 3, (5,), "centered", kernel_size=2).double()
    centered.load_state_dict(nearest.state_dict())
    frames = torch.randn(1, 2, 9, dtype=torch.float64)

    earlier, later = centered(frames)[..., :-5], nearest(frames)[..., 5:]

    torch.testing.assert_close(earlier[..., 5:], later[..., 5:])


@pytest.mark.parametrize("upsample", sorted({*UPSAMPLERS} - {"shared"}))  # counts convolutions
def test_operations_are_those_that_torch_counts(upsample: str) -> None:
    stage = build_upsample(upsample, 3, 4, upsample_frames=3, freq_axis_kernel_size=5)

    with FlopCounterMode(display=False) as counter:
        stage(torch.randn(1, 3, 7))

    assert counter.get_total_flops() == 7 * stage.operations_per_input()


@settings(max_examples=40, deadline=None)
@given(config=local_configs())
def test_gradients_reach_every_weight_of_every_stage(config: LocalConfig) -> None:
    conditioner = LocalConditioner(**asdict(config)).double()
    raise_above_relu(conditioner)
    frames = torch.randn(2, config.in_channels, 3, dtype=torch.float64)

    conditioner(frames).square().sum().backward()

    for stage in conditioner.upsampling:
        assert all(weight.grad is not None and weight.grad.any() for weight in stage.parameters())


def golden(name: str, weights: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors and weights of a golden file, in float64."""
    arrays = load_file(GOLDEN / f"{name}.safetensors")
    state = {k: v.double() for k, v in state_dict_of(read_torch(GOLDEN / weights)).items()}
    return arrays, state


def folded(state: dict[str, Tensor], name: str) -> Tensor:
    """Weights from their weight normalization over all axes but the first."""
    length, direction = state[f"{name}.weight_g"], state[f"{name}.weight_v"]
    weight: Tensor = length * direction / direction.flatten(1).norm(dim=1).view_as(length)
    return weight


IDENTITY = {"conv_in.weight": torch.eye(5).unsqueeze(-1), "conv_in.bias": torch.zeros(5)}


def test_transposed_upsampling_is_that_of_nv_wavenet() -> None:
    arrays, state = golden("nv", "nv_wavenet_1000.legacy")
    conditioner = LocalConditioner(5, 5, (10,), "transposed", upsample_frames=4).double()
    stage = {f"upsampling.0.conv.{name}": state[f"upsample.{name}"] for name in ("weight", "bias")}
    conditioner.load_state_dict({**IDENTITY, **stage})
    frames, expected = arrays["frames"], arrays["condition"]

    with torch.no_grad():
        after_zeros = conditioner.window(nn.functional.pad(frames, (3, 0)))
        conditioning = conditioner(frames)

    torch.testing.assert_close(after_zeros, expected, rtol=0, atol=1e-13)
    later = slice(3 * 10, None)  # theirs has zeros before the first frame
    torch.testing.assert_close(conditioning[..., later], expected[..., later], rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["r9y9_mol", "r9y9_gauss"])
def test_centered_upsampling_is_that_of_r9y9(name: str) -> None:
    arrays, state = golden(name, f"{name}.pth")
    conditioner = LocalConditioner(5, 5, (3, 4), "centered", kernel_size=3, lookahead=2).double()
    layers = "upsample_net.upsample.up_layers"
    weights = {f"upsampling.{i}": folded(state, f"{layers}.{2 * i + 1}") for i in (0, 1)}
    conv_in = {**IDENTITY, "conv_in.weight": state["upsample_net.conv_in.weight"]}
    smoothing = {f"{stage}.smoothing.weight": w[:, :, 0] for stage, w in weights.items()}
    conditioner.load_state_dict({**conv_in, **smoothing})
    frames, expected = arrays["frames"], arrays["condition"]

    with torch.no_grad():
        x = conditioner.conv_in(frames)  # which hold two frames more on either side
        for stage in conditioner.upsampling:
            x = stage(x)
        conditioning = conditioner(frames)[..., 2 * 12 : -2 * 12]

    torch.testing.assert_close(x, expected, rtol=0, atol=1e-13)
    middle = slice(16, -16)  # theirs has zeros around the input of each stage
    torch.testing.assert_close(conditioning[..., middle], expected[..., middle], rtol=0, atol=1e-13)


def test_bands_upsampling_is_that_of_r9y9_v011() -> None:
    name = "r9y9_011_mol_speakers"
    arrays, state = golden(name, f"{name}.pth")
    conditioner = LocalConditioner(5, 5, (3, 4), "bands").double()
    stages = {}
    for index in (0, 1):
        theirs = f"upsample_conv.{2 * index}"
        stages[f"upsampling.{index}.conv.weight"] = folded(state, theirs)
        stages[f"upsampling.{index}.conv.bias"] = state[f"{theirs}.bias"]
    conditioner.load_state_dict({**IDENTITY, **stages})

    with torch.no_grad():
        conditioning = conditioner(arrays["frames"])

    assert (arrays["condition"] == 0).any()  # where the ReLU acts
    torch.testing.assert_close(conditioning, arrays["condition"], rtol=0, atol=1e-13)


def test_a_kernel_of_an_impossible_size_is_refused() -> None:
    with pytest.raises(ValueError, match="upsample_frames must be a whole number, 1 or"):
        LocalConditioner(3, 4, (2,), "transposed", upsample_frames=0)
    with pytest.raises(ValueError, match="must be odd and positive, got 2"):
        LocalConditioner(3, 4, (2,), "bands", freq_axis_kernel_size=2)
