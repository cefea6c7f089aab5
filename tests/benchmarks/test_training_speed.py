import pytest

from wavenet.benchmarks.framework import Measurement, Result, Timing
from wavenet.benchmarks.training_speed import (
    Implementation,
    Precision,
    TrainingCase,
    measure_training,
    segments_read_per_second,
    training_cases,
)
from wavenet.config import WaveNetConfig
from wavenet.utils.errors import MachineError

TINY = WaveNetConfig(
    dilations=(1, 2), residual_channels=16, gate_channels=32, skip_channels=16, head_channels=16
)


def make_case(
    implementation: Implementation, precision: Precision = "32-true", segment_length: int = 200
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


@pytest.mark.slow
def test_each_case_is_measured_in_every_repeat_in_its_own_process() -> None:
    cases = [
        make_case("baseline"),
        make_case("fused", "bf16-mixed"),
        make_case("fused_checkpointed"),
    ]

    measurements = measure_training(TINY, cases, repeats=2, seconds=0.01)

    assert [one.case for one in measurements] == cases
    for one in measurements:
        assert len(one.timings) == 2
        assert min(timing.rate for timing in one.timings) > 0
        assert one.share_of_limit is not None
        assert 0 < one.share_of_limit < 1
        assert one.memory_mib is not None


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

    with pytest.raises(
        MachineError,
        match=r"measures fused, 32-true, 1 x 200 failed: RuntimeError: Expected one of cpu",
    ):
        measure_training(TINY, [wrong], repeats=1, seconds=0.01)
