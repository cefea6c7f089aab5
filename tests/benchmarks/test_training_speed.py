from typing import Any

import pytest
import torch
from torch import nn

from wavenet.benchmarks.framework import Measurement, Result, Timing, worker_process
from wavenet.benchmarks.training_speed import (
    BaselineWaveNet,
    TrainingCase,
    _training_meter,
    segments_read_per_second,
    training_cases,
)
from wavenet.config import WaveNetConfig
from wavenet.model import WaveNet
from wavenet.utils.dataclass_io import to_dict
from wavenet.utils.errors import MachineError

TINY = WaveNetConfig(
    dilations=(1, 2), residual_channels=16, gate_channels=32, skip_channels=16, head_channels=16
)


def make_case(
    implementation: str, precision: str = "32-true", segment_length: int = 200
) -> TrainingCase:
    return TrainingCase(
        implementation=implementation,
        precision=precision,
        batch_size=1,
        segment_length=segment_length,
        device="cpu",
    )


def test_cases_are_all_combinations() -> None:
    cases = training_cases(["1x200", "3x50"], ["baseline", "fused"], ["32-true"], "cpu")

    assert cases[0] == make_case("baseline")
    assert len(cases) == len(set(cases)) == 4
    assert (cases[-1].batch_size, cases[-1].segment_length) == (3, 50)


def test_a_case_is_compared_with_the_baseline_of_the_same_shape() -> None:
    measurements = [
        Measurement(make_case("baseline"), [Timing(10.0)]),
        Measurement(make_case("baseline", segment_length=400), [Timing(100.0)]),
        Measurement(make_case("fused", segment_length=400), [Timing(200.0)]),
    ]

    table = Result(name="tiny", num_parameters=1, measurements=measurements).table()

    assert "x 2.00" in table.splitlines()[-1]


def test_reading_segments_is_measured() -> None:
    assert segments_read_per_second(100, 10, num_clips=1, seconds=0.01) > 0


@pytest.mark.slow
def test_failed_process_reports_its_error() -> None:
    wrong = TrainingCase(
        implementation="fused",
        precision="32-true",
        batch_size=1,
        segment_length=200,
        device="nowhere",
    )

    plain = [to_dict(wrong), to_dict(TINY)]
    message = r"measures fused, 32-true, 1 x 200 failed: RuntimeError: Expected one of cpu"
    process = worker_process(_training_meter, plain, wrong.name)
    with process as measure, pytest.raises(MachineError, match=message):
        measure(0.01)


@pytest.mark.parametrize(
    ("kernel_size", "companding"), [(2, "mu-law"), (3, "mu-law"), (2, "mu-law-floor")]
)
def test_baseline_with_the_same_weights_gives_the_same_nll(
    kernel_size: int, companding: Any
) -> None:
    config = WaveNetConfig(
        quantization_channels=16,
        companding=companding,
        dilations=(1, 2, 4),
        kernel_size=kernel_size,
        residual_channels=4,
        gate_channels=6,
        skip_channels=5,
        head_channels=7,
    )
    model, baseline = WaveNet(config).double(), BaselineWaveNet(config).double()
    with torch.no_grad():
        assert isinstance(model.input.bias, nn.Parameter)
        baseline.embedding.weight.copy_(model.input.weight[-1] + model.input.bias)
        weights = [p for name, p in model.named_parameters() if not name.startswith("input")]
        by_kind = {
            kind: [p for name, p in model.named_parameters() if kind in name]
            for kind in (".conv.", "residual_conv.", "skip_conv.", "head.")
        }
        own = {
            ".conv.": baseline.convs,
            "residual_conv.": baseline.residuals,
            "skip_conv.": baseline.skips,
            "head.": baseline.head,
        }
        for kind, layers in own.items():
            for mine, its in zip(layers.parameters(), by_kind[kind], strict=True):
                mine.copy_(its)
    waveform = torch.rand(2, 30, dtype=torch.float64) * 2 - 1

    nll = baseline.nll(waveform)

    assert sum(map(len, by_kind.values())) == len(weights)
    torch.testing.assert_close(nll, model.nll(waveform).float(), rtol=1e-5, atol=1e-5)
