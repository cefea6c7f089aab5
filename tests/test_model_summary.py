"""The numbers of the printed table are those of the model."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests import architectures
from tests.architectures import num_examples
from wavenet.config import LocalConfig, WaveNetConfig
from wavenet.model import WaveNet
from wavenet.model_summary import layer_rows, layer_table
from wavenet.modules import ResidualBlock
from wavenet.utils.errors import ConfigError

configs = st.builds(
    WaveNetConfig,
    quantization_channels=st.integers(2, 9),
    input_type=st.sampled_from(["embedding", "scalar"]),
    input_kernel_size=st.integers(1, 3),
    dilations=st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple),
    kernel_size=st.integers(1, 3),
    residual_channels=st.integers(1, 5),
    gate_channels=st.integers(1, 3).map(lambda half: 2 * half),
    skip_channels=st.integers(1, 5),
    head_channels=st.integers(1, 5),
    bias=st.booleans(),
    weight_norm=st.booleans(),
)


@settings(max_examples=num_examples(20, 60), deadline=None)
@given(config=architectures.configs())
def test_parameters_of_all_rows_are_those_of_the_model(config: WaveNetConfig) -> None:
    model = WaveNet(config)

    total = sum(row.num_parameters for row in layer_rows(config))

    assert total == sum(parameter.numel() for parameter in model.parameters())


@settings(max_examples=num_examples(10, 25), deadline=None)
@given(config=configs)
def test_without_bias_every_weight_is_multiplied_once(config: WaveNetConfig) -> None:
    plain = {**vars(config), "bias": False, "weight_norm": False, "input_type": "scalar"}

    for row in layer_rows(WaveNetConfig(**plain)):
        assert row.operations == 2 * row.num_parameters


@given(config=configs)
def test_last_row_has_the_receptive_field_of_the_config(config: WaveNetConfig) -> None:
    rows = layer_rows(config)

    assert len(rows) == len(config.dilations) + 2
    assert rows[-1].receptive_field == config.receptive_field
    assert [row.receptive_field for row in rows] == sorted(row.receptive_field for row in rows)


def test_operations_of_a_frame_are_shared_by_its_samples() -> None:
    local = LocalConfig(
        in_channels=80, channels=64, upsample_scales=(10, 8), upsample="repeat", kernel_size=2
    )
    rows = layer_rows(WaveNetConfig(dilations=(1,), local=local, num_speakers=3))

    assert [row.name for row in rows[:3]] == ["global conditioner", "local conditioner", "input"]
    assert rows[1].operations == 2 * 2 * 80 * 64 / 80
    bare = layer_rows(WaveNetConfig(dilations=(1,)))
    assert rows[3].operations - bare[1].operations == 2 * (64 + 16) * 128


def test_a_changed_block_is_counted_and_a_foreign_one_is_refused() -> None:
    class TwoSkips(ResidualBlock):
        def __init__(self) -> None:
            super().__init__(64, 128, 256)
            self.second_skip = nn.Conv1d(64, 256, 1)

    model = WaveNet(WaveNetConfig(dilations=(1, 2)))
    before = layer_rows(model)[1]
    model.stack.blocks[0] = TwoSkips()
    changed = layer_rows(model)[1]
    model.stack.blocks[0] = nn.Identity()

    assert changed.num_parameters - before.num_parameters == 64 * 256 + 256
    assert changed.operations - before.operations == 2 * 64 * 256
    with pytest.raises(ConfigError, match=r"stack\.blocks\.0 is Identity, not a ResidualBlock"):
        layer_rows(model)


def test_table_has_a_line_per_layer_and_ends_with_receptive_field() -> None:
    config = WaveNetConfig(dilations=(1, 2, 4, 8))

    lines = layer_table(config, sample_rate=8000).splitlines()

    assert [line.split("  ")[0] for line in lines[2:-3]] == [
        *("input", "block 1", "block 2", "block 3", "block 4", "head")
    ]
    assert lines[-1] == "receptive field: 16 samples, 0.002 s at 8,000 Hz"
    total = sum(row.num_parameters for row in layer_rows(config))
    assert lines[-2].split()[:2] == ["total", f"{total:,}"]
    assert len({len(line) for line in lines[:-1]}) == 1


def test_an_effective_kernel_spans_first_to_last_tap() -> None:
    rows = layer_rows(WaveNetConfig(kernel_size=3, dilations=(1, 2, 5)))

    assert [row.effective_kernel_size for row in rows if row.dilation] == [1, 3, 5, 11, 1]
