import pytest

from wavenet.benchmarks.training_speed import Case, TrainingSpeed, measure_training, training_table
from wavenet.config import WaveNetConfig
from wavenet.utils.errors import MachineError

TINY = WaveNetConfig(
    dilations=(1, 2), residual_channels=16, gate_channels=32, skip_channels=16, head_channels=16
)


def case(way: str, precision: str = "32-true", crop: int = 200) -> Case:
    return Case(way=way, precision=precision, batch_size=1, crop=crop, device="cpu")  # type: ignore[arg-type]


def speed(way: str, rates: list[float], crop: int = 200) -> TrainingSpeed:
    return TrainingSpeed(
        case=case(way, crop=crop), operations=10, rates=rates, peaks=[1000.0] * len(rates)
    )


@pytest.mark.slow
def test_each_way_is_measured_in_every_round_in_a_process_of_its_own() -> None:
    cases = [case("baseline"), case("fused", "bf16-mixed"), case("fused_checkpointed")]
    told: list[int] = []

    speeds = measure_training(TINY, cases, rounds=2, seconds=0.01, progress=told.append)

    assert told == [1] * 6
    for found in speeds:
        assert len(found.rates) == len(found.peaks) == 2
        assert min(found.rates) > 0
        assert 0 < found.share_of_peak < 1
    assert len(training_table(speeds).splitlines()) == 4


def test_a_ratio_is_the_middle_of_those_within_rounds() -> None:
    fast, slow = speed("fused", [10.0, 90.0, 30.0]), speed("baseline", [5.0, 30.0, 15.0])

    assert fast.times(slow) == 2.0
    assert fast.median == 30.0
    assert fast.share_of_peak == 0.3


def test_a_way_is_compared_with_the_textbook_of_the_same_crops() -> None:
    speeds = [
        speed("baseline", [10.0]),
        speed("baseline", [100.0], crop=400),
        speed("fused", [200.0], crop=400),
    ]

    table = training_table(speeds).splitlines()

    assert "x 2.00" in table[-1]


@pytest.mark.slow
def test_a_process_that_fails_says_why() -> None:
    wrong = Case(way="fused", precision="32-true", batch_size=1, crop=200, device="nowhere")

    with pytest.raises(
        MachineError,
        match=r"measures fused, 32-true, 1 x 200 failed: RuntimeError: Expected one of cpu",
    ):
        measure_training(TINY, [wrong], rounds=1, seconds=0.01)
