"""Random small models, for tests that must hold for every architecture."""

from typing import Any

from hypothesis import strategies as st

from wavenet.config import WaveNetConfig

SMALL = WaveNetConfig(
    levels=16,
    dilations=(1, 2, 4),
    residual_channels=4,
    gate_channels=6,
    skip_channels=5,
    head_channels=5,
)


@st.composite
def configs(draw: st.DrawFn, /, **fixed: Any) -> WaveNetConfig:
    """Any shape of model, small: odd widths, arbitrary dilations, every option."""
    options = {
        "levels": draw(st.integers(2, 40)),
        "input": draw(st.sampled_from(["embedding", "scalar"])),
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
    }
    return WaveNetConfig(**{**options, **fixed})
