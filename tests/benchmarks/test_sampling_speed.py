import os
from dataclasses import replace

import pytest

from tests.architectures import SMALL
from wavenet.benchmarks.framework import Measurement, Result, Timing
from wavenet.benchmarks.sampling_speed import (
    REFERENCE,
    UNCONDITIONAL,
    SamplingCase,
    conditioning_cost,
    measure_sampling,
    measure_startup,
    sampling_cases,
)
from wavenet.config import LocalConfig
from wavenet.model import WaveNet
from wavenet.utils.cores import available_cores
from wavenet.utils.errors import ConfigError

ALL_CORES = available_cores()


def test_cases_are_the_reference_and_all_combinations_for_the_cpu() -> None:
    found = sampling_cases([1, 8], [1], ["float32", "int8"], ["none", "mel"])

    assert found[0] == SamplingCase(
        backend=REFERENCE, weight_dtype="float32", num_threads=1, batch_size=1
    )
    assert len(found) == len(set(found)) == 1 + 2 * 2 * 2
    assert all(found[0].is_baseline_of(case) for case in found)
    assert not found[1].is_baseline_of(found[0])


def test_samplers_of_a_gpu_have_the_cases_that_they_can_compute() -> None:
    dtypes = ["float32", "bfloat16", "int8"]

    found = sampling_cases([1, 8], [1], dtypes, backends=["graph", "cuda"])

    assert [(case.backend, case.weight_dtype, case.batch_size) for case in found[1:]] == [
        *(("graph", "float32", batch_size) for batch_size in (1, 8)),
        *(("cuda", dtype, batch_size) for batch_size in (1, 8) for dtype in dtypes[:2]),
    ]
    assert {case.num_threads for case in found} == {1}


def test_more_threads_than_cores_are_skipped_or_refused() -> None:
    found = sampling_cases([1], [ALL_CORES, ALL_CORES + 1], ["float32"])

    assert [case.num_threads for case in found] == [1, ALL_CORES]
    with pytest.raises(ConfigError, match="this machine has"):
        sampling_cases([1], [ALL_CORES + 1], ["float32"])


def test_every_case_is_measured_in_every_repeat() -> None:
    cases = sampling_cases([1, 3], [1], ["float32"], backends=["cpu", "graph"])

    found = measure_sampling({UNCONDITIONAL: WaveNet(SMALL)}, cases, repeats=3, seconds=0.01)

    assert [one.case for one in found] == cases
    for one in found:
        assert len(one.timings) == 3
        assert min(timing.rate for timing in one.timings) > 0
    assert [one.share_of_limit is None for one in found] == [True, False, True, True, True]


def test_a_table_has_real_time_factors_and_ratios_to_the_reference() -> None:
    reference = SamplingCase(backend=REFERENCE, weight_dtype="float32", num_threads=1, batch_size=1)
    cpu = SamplingCase(backend="cpu", weight_dtype="int8", num_threads=2, batch_size=1)
    timings = [Timing(rate, 64000.0) for rate in (32000.0, 30000.0, 34000.0)]
    measurements = [Measurement(reference, [Timing(500.0)] * 3), Measurement(cpu, timings)]

    table = Result(name="a", num_parameters=1, measurements=measurements, sample_rate=16000).table()

    words = table.splitlines()[3].split()
    expected = "cpu int8 2 1 none 32,000 ±6% 0.500 x 64.00 0.50"
    assert words == expected.split()


def test_the_cost_of_conditioning_is_a_ratio_within_repeats() -> None:
    local = LocalConfig(in_channels=3, channels=4, upsample_scales=(8,))
    conditioned = replace(SMALL, local=local, num_speakers=2, global_in_channels=2)
    cases = sampling_cases([1, 2], [1], ["float32"], [UNCONDITIONAL, "mel"])
    models = {UNCONDITIONAL: WaveNet(SMALL), "mel": WaveNet(conditioned)}

    found = measure_sampling(models, cases, repeats=2, seconds=0.01)

    assert len(found) == 5
    first, second = conditioning_cost(found)
    assert first.startswith("cpu, float32, 1 thread, batch 1, mel: ")
    assert second.startswith("cpu, float32, 1 thread, batch 2, mel: ")
    assert second.endswith(" of none")


@pytest.mark.slow
@pytest.mark.skipif("WAVENET_FULL" not in os.environ, reason="compares times: pytest --full does")
def test_a_warm_start_is_faster_than_the_first() -> None:
    startup = measure_startup(SMALL)

    assert 0 < startup.warm_seconds < startup.cold_seconds
    assert 0 < startup.sampler_mib < startup.memory_mib
