"""Random small models, for tests that must hold for every architecture."""

import os
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from wavenet.config import LocalConfig, MelConfig, PredictorConfig, WaveNetConfig
from wavenet.distributions.companding import CONVENTIONS
from wavenet.modules import LocalConditioner, ResidualStack
from wavenet.modules.upsampling import UPSAMPLERS, BandsUpsample

SMALL = WaveNetConfig(
    quantization_channels=16,
    dilations=(1, 2, 4),
    residual_channels=4,
    gate_channels=6,
    skip_channels=5,
    head_channels=5,
)


def num_examples(few: int, full: int = 500) -> int:
    """Return how many examples a test tries: `few`, or with `--full` many."""
    return full if "WAVENET_FULL" in os.environ else few


@st.composite
def local_configs(draw: st.DrawFn) -> LocalConfig:
    """Any small local conditioning."""
    upsample: Any = draw(st.sampled_from(sorted(UPSAMPLERS)))
    options = {
        "transposed": {"upsample_frames": draw(st.integers(1, 4))},
        "bands": {"freq_axis_kernel_size": draw(st.sampled_from([1, 3, 5]))},
    }
    return LocalConfig(
        in_channels=draw(st.integers(1, 4)),
        channels=draw(st.integers(1, 6)),
        upsample_scales=tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))),
        upsample=upsample,
        kernel_size=draw(st.integers(1, 3)),
        lookahead=draw(st.integers(0, 2)),
        context_dilations=tuple(draw(st.lists(st.integers(1, 3), max_size=2))),
        **options.get(upsample, {}),
    )


@st.composite
def predictor_configs(draw: st.DrawFn, local: LocalConfig) -> PredictorConfig:
    """Any small linear predictor for some local conditioning."""
    mel = MelConfig(
        sample_rate=8000,
        n_fft=64,
        hop_length=local.hop_length,
        win_length=48,
        n_mels=draw(st.integers(1, local.in_channels)),
        f_max=draw(st.sampled_from([3000.0, 4000.0])),
        log_base=draw(st.sampled_from(["natural", "log10"])),
        mean=(-2.0,),
    )
    subframes = draw(st.integers(1, min(4, local.hop_length)))
    return PredictorConfig(order=draw(st.integers(1, 31)), subframes=subframes, mel=mel)


@st.composite
def past_predictor_configs(draw: st.DrawFn) -> PredictorConfig:
    """Any small linear predictor from the past."""
    length = draw(st.integers(16, 40))
    order, interval = draw(st.integers(1, length - 1)), draw(st.integers(1, 9))
    return PredictorConfig(source="past", order=order, window_length=length, interval=interval)


@st.composite
def configs(draw: st.DrawFn, /, **fixed: Any) -> WaveNetConfig:
    """Any small model: odd widths, arbitrary dilations, every option."""
    output = draw(st.sampled_from(["categorical", "logistic_mixture", "gaussian_mixture"]))
    options = {
        "output_distribution": output,
        "quantization_channels": draw(st.integers(2, 40)) if output == "categorical" else 65536,
        "companding": draw(st.sampled_from([*CONVENTIONS]))
        if output == "categorical"
        else "mu-law",
        "num_mixtures": draw(st.integers(1, 4)),
        "input_type": draw(
            st.sampled_from(["embedding", "scalar", *["mu-law"] * (output != "categorical")])
        ),
        "input_kernel_size": draw(st.integers(1, 4)),
        "dilations": tuple(draw(st.lists(st.integers(1, 9), min_size=1, max_size=5))),
        "kernel_size": draw(st.integers(1, 5)),
        "residual_channels": draw(st.integers(1, 7)),
        "gate_channels": 2 * draw(st.integers(1, 5)),
        "skip_channels": draw(st.integers(1, 7)),
        "head_channels": draw(st.integers(1, 7)),
        "bias": draw(st.booleans()),
        "weight_norm": draw(st.booleans()),
        "residual_scale": draw(st.sampled_from([1.0, 0.5**0.5])),
        "skip_scale": draw(st.sampled_from([1.0, 0.3])),
        "num_speakers": draw(st.sampled_from([0, 0, 1, 3])),
        "global_in_channels": draw(st.sampled_from([0, 0, 2])),
        "global_channels": draw(st.integers(1, 5)),
        "conditioning_dropout": 0.0,  # it is random, and tests compare results
        "local": draw(st.one_of(st.none(), local_configs())),
    }
    given = {**options, **fixed}
    if given["output_distribution"] != "categorical" and "predictor" not in fixed:
        kinds = [st.none(), past_predictor_configs()]
        if given["local"]:
            kinds.append(predictor_configs(given["local"]))
        given["predictor"] = draw(st.one_of(*kinds))
    return WaveNetConfig(**given)


def conditions_for(
    config: WaveNetConfig, batch_size: int, length: int, dtype: torch.dtype = torch.float32
) -> dict[str, Tensor]:
    """Random conditioning inputs of `forward` for a batch of `length` samples."""
    conditions = {}
    if config.local is not None:
        frames = -(-length // config.local.hop_length)
        conditions["local"] = torch.randn(batch_size, config.local.in_channels, frames, dtype=dtype)
    if config.num_speakers:
        conditions["speaker"] = torch.randint(-1, config.num_speakers, (batch_size,))
    if config.global_in_channels:
        conditions["vector"] = torch.randn(batch_size, config.global_in_channels, dtype=dtype)
    return conditions


def raise_above_relu(conditioner: LocalConditioner) -> None:
    """Raise the outputs of `bands` upsampling above zero, where its ReLU has a gradient."""
    for stage in conditioner.upsampling:
        if isinstance(stage, BandsUpsample):
            nn.init.constant_(stage.get_parameter("conv.bias"), 10.0)


def some(conditions: dict[str, Tensor], items: slice) -> dict[str, Tensor]:
    """The conditioning inputs of some items of a batch."""
    return {name: tensor[items] for name, tensor in conditions.items()}


def block_by_block(stack: ResidualStack, x: Tensor, conditioning: Tensor | None = None) -> Tensor:
    """What the loop over the blocks of a stack gives: the definition."""
    stack.fused = False
    y: Tensor = stack(x, conditioning)
    stack.fused = True
    return y
