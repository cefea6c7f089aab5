import pytest

from tests.architectures import SMALL
from wavenet.benchmarks.sampling_speed import (
    NOTHING,
    REFERENCE,
    Case,
    Speed,
    cases,
    measure,
    measure_start,
    speed_table,
)
from wavenet.config import LocalConfig, WaveNetConfig
from wavenet.model import WaveNet


def test_cases_are_the_reference_and_every_way_of_the_cpu() -> None:
    found = cases([1, 8], [1, 2], ["float32", "int8"])

    assert found[0] == Case(backend=REFERENCE, precision="float32", threads=1, batch=1)
    assert len(found) == len(set(found)) == 1 + 2 * 2 * 2


def test_every_case_is_measured_once_a_round() -> None:
    chosen = cases([1, 3], [1], ["float32"])
    steps: list[int] = []

    speeds = measure(
        {NOTHING: WaveNet(SMALL)}, chosen, rounds=3, seconds=0.01, progress=steps.append
    )

    assert [speed.case for speed in speeds] == chosen
    assert all(len(speed.rates) == 3 and min(speed.rates) > 0 for speed in speeds)
    assert sum(steps) == 3 * len(chosen)
    by_batch = {speed.case: speed.share_of_ceiling for speed in speeds}
    assert [share is None for share in by_batch.values()] == [True, False, True]


def test_the_share_of_the_ceiling_is_of_what_was_measured_beside_it() -> None:
    case = Case(backend="cpu", precision="float32", threads=1, batch=1)

    speed = Speed(case=case, rates=[50.0, 90.0, 10.0], ceilings=[100.0, 100.0, 10.0])

    assert speed.median == 50
    assert speed.share_of_ceiling == 0.9


def test_the_table_has_ratios_to_real_time_and_to_the_reference() -> None:
    reference = Case(backend=REFERENCE, precision="float32", threads=1, batch=1)
    cpu = Case(backend="cpu", precision="int8", threads=2, batch=1)

    table = speed_table(
        [
            Speed(case=reference, rates=[500.0]),
            Speed(case=cpu, rates=[32000.0, 30000.0, 34000.0], ceilings=[64000.0] * 3),
        ],
        sample_rate=16000,
    )

    words = table.splitlines()[2].split()
    assert words == ["cpu", "int8", "2", "1", "32,000", "±6%", "x", "2.00", "x", "64.0", "0.50"]


def test_what_it_costs_to_be_told_something_is_said_round_by_round() -> None:
    local = LocalConfig(in_channels=3, channels=4, upsample_scales=(8,))
    told = WaveNetConfig(
        **{**vars(SMALL), "local": local, "num_speakers": 2, "global_in_channels": 2}
    )
    chosen = cases([1, 2], [1], ["float32"], [NOTHING, "mel"])

    models = {NOTHING: WaveNet(SMALL), "mel": WaveNet(told)}
    speeds = measure(models, chosen, rounds=2, seconds=0.01)

    lines = speed_table(speeds, sample_rate=8000).splitlines()
    assert len(lines) == 1 + 5 + 2
    assert lines[-2].startswith("cpu, float32, 1 thread, batch 1, told mel: ")
    assert lines[-1].endswith(" of none")


@pytest.mark.slow
def test_a_warm_start_is_faster_than_the_first() -> None:
    start = measure_start(SMALL)

    assert 0 < start.warm_seconds < start.first_seconds
    assert 0 < start.sampler_mib < start.memory_mib
