"""Speed of samplers: cases, their measurement, and the start-up of a new process."""

import copy
import itertools
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from wavenet import checkpoint
from wavenet.benchmarks.framework import (
    Measurement,
    Timing,
    measure_interleaved,
    process_memory_mib,
    worker_process,
)
from wavenet.config import LocalConfig, WaveNetConfig
from wavenet.data.dataset import SequentialSegments
from wavenet.evaluation.held_out import first_seconds, held_out_clips
from wavenet.evaluation.nll import make_clip_reader, sampler_bits_per_sample
from wavenet.model import WaveNet
from wavenet.sampling import Sampler, make_sampler
from wavenet.utils.cores import available_cores
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.errors import ConfigError, DataError

log = logging.getLogger("wavenet")
REFERENCE = "reference"
UNCONDITIONAL = "none"
CONDITIONING: dict[str, dict[str, Any]] = {  # changes of the model config
    UNCONDITIONAL: {},
    "mel": {
        "local": LocalConfig(in_channels=80, channels=80, upsample_scales=(16, 16), lookahead=2)
    },
    "speaker": {"num_speakers": 100},
}


@dataclass(frozen=True)
class SamplingCase:
    """A sampler and what it generates."""

    backend: str  # name of the sampler
    weight_dtype: str  # of its weights
    num_threads: int  # cores that it may use
    batch_size: int  # streams at once
    conditioning: str = UNCONDITIONAL  # key of `CONDITIONING`, and of the model

    @property
    def name(self) -> str:
        """Return its label in a chart."""
        threads = f"{self.num_threads} thread{'s' * (self.num_threads > 1)}"
        conditioning = "" if self.conditioning == UNCONDITIONAL else f", {self.conditioning}"
        batch = f"batch {self.batch_size}"
        return f"{self.backend}, {self.weight_dtype}, {threads}, {batch}{conditioning}"

    def is_baseline_of(self, other: "SamplingCase") -> bool:
        """Return whether this is the reference sampler."""
        return self.backend == REFERENCE


def sampling_cases(
    batch_sizes: Sequence[int],
    num_threads: Sequence[int],
    weight_dtypes: Sequence[str],
    conditioning: Sequence[str] = (UNCONDITIONAL,),
    backends: Sequence[str] = ("cpu",),
) -> list[SamplingCase]:
    """Return the reference sampler, then all combinations that each backend has.

    `graph` has one thread and float32, `cuda` one thread, float32 and bfloat16.

    Raises:
        ConfigError: This machine has fewer cores than the smallest of `num_threads`.
    """
    cores = available_cores()
    possible = [count for count in num_threads if count <= cores]
    if not possible:
        raise ConfigError(f"num_threads={list(num_threads)}: this machine has {cores} cores")
    if len(possible) < len(num_threads):
        log.info("this machine has %d cores: larger num_threads are skipped", cores)
    reference = SamplingCase(REFERENCE, "float32", 1, 1, conditioning[0])
    cases = [reference]
    for backend in backends:
        threads = possible if backend == "cpu" else [1]
        dtypes = {"graph": ["float32"], "cuda": [d for d in weight_dtypes if d != "int8"]}
        combinations = itertools.product(
            batch_sizes, threads, dtypes.get(backend, weight_dtypes), conditioning
        )
        cases += [
            SamplingCase(backend, weight_dtype, count, batch_size, kind)
            for batch_size, count, weight_dtype, kind in combinations
        ]
    return cases


def untrained_models(config: WaveNetConfig, conditioning: Sequence[str]) -> dict[str, WaveNet]:
    """Return a model for each kind of conditioning, all with the same seed."""
    models = {}
    for kind in conditioning:
        torch.manual_seed(0)
        models[kind] = WaveNet(replace(config, **CONDITIONING[kind])).eval()
    return models


def measure_sampling(
    models: Mapping[str, WaveNet],
    cases: Sequence[SamplingCase],
    repeats: int,
    seconds: float,
    description: str = "sampling",
) -> list[Measurement[SamplingCase]]:
    """Return the speed of each case; of single streams also that of reading the weights.

    Args:
        models: Models by kind of conditioning.
        cases: What is measured.
        repeats: Measurements of each case.
        seconds: Time of one measurement.
        description: For the progress bar.
    """
    from wavenet.benchmarks.bandwidth import bandwidth_limit  # needs numba, as CpuSampler does
    from wavenet.sampling.cpu import CpuSampler

    torch.set_num_threads(1)  # the fastest for the small products of the reference sampler
    kinds = [replace(case, batch_size=1) for case in cases]  # other batch sizes share a sampler
    by_kind = {
        kind: make_sampler(
            _model_for(kind, models),
            kind.backend,
            num_threads=kind.num_threads,
            weight_dtype=kind.weight_dtype,
        )
        for kind in dict.fromkeys(kinds)
    }
    samplers = [by_kind[kind] for kind in kinds]
    lengths = [
        _length_for(sampler, case.batch_size, seconds)
        for case, sampler in zip(cases, samplers, strict=True)
    ]

    def measure_all(repeat: int) -> Iterator[Timing]:
        for case, sampler, length in zip(cases, samplers, lengths, strict=True):
            rate = _rate(sampler, case.batch_size, length, seed=repeat)
            limit = None
            if isinstance(sampler, CpuSampler) and case.batch_size == 1:
                limit = bandwidth_limit(sampler, seconds / 2)
            yield Timing(rate, limit)

    return measure_interleaved(cases, measure_all, repeats, description)


def _model_for(case: SamplingCase, models: Mapping[str, WaveNet]) -> WaveNet:
    """Return the model of a case, on a GPU where its sampler takes one."""
    model = models[case.conditioning]
    if case.backend in ("graph", "cuda") and torch.cuda.is_available():
        return copy.deepcopy(model).cuda()
    return model


def conditioning_cost(measurements: Sequence[Measurement[SamplingCase]]) -> Iterator[str]:
    """Yield the speed of conditioned cases as a share of the first kind's."""
    first = {replace(one.case, conditioning=""): one for one in reversed(measurements)}
    for one in measurements:
        base = first[replace(one.case, conditioning="")]
        if one is not base:
            yield f"{one.case.name}: {one.times(base):.3f} of {base.case.conditioning}"


def bits_by_weight_dtype(
    model_dir: Path, weight_dtypes: Sequence[str], seconds: float
) -> dict[str, float]:
    """Return the bits per sample of a model with its weights in each type, float32 first.

    Args:
        model_dir: A model directory; without held-out clips of its run the result is empty.
        weight_dtypes: Types besides float32.
        seconds: Audio to measure on.
    """
    loaded = checkpoint.load(model_dir)
    try:
        folder, clips = held_out_clips(model_dir, loaded)
    except (ConfigError, DataError) as error:
        log.info("no bits per sample: the held-out clips of the run of %s are missing", model_dir)
        log.debug("%s", error)
        return {}
    model = loaded.model
    windows = SequentialSegments(
        make_clip_reader(model.config, loaded.audio, folder),
        first_seconds(clips, seconds),
        context=model.config.receptive_field,
    )
    return {
        weight_dtype: sampler_bits_per_sample(
            make_sampler(model, "cpu", weight_dtype=weight_dtype), model.distribution, windows
        )
        for weight_dtype in dict.fromkeys(("float32", *weight_dtypes))
    }


def _rate(sampler: Sampler, batch_size: int, length: int, seed: int = 0) -> float:
    """Return samples per second over all streams, with conditioning of zeros."""
    config = sampler.model.config
    conditioning: dict[str, Any] = {}
    if config.local is not None:
        frames = -(-length // config.local.hop_length)
        conditioning["local"] = torch.zeros(batch_size, config.local.in_channels, frames)
    if config.num_speakers:
        conditioning["speaker"] = torch.zeros(batch_size, dtype=torch.int64)
    if config.global_in_channels:
        conditioning["vector"] = torch.zeros(batch_size, config.global_in_channels)
    started = time.perf_counter()
    sampler.generate(length, batch_size=batch_size, seed=seed, **conditioning).cpu()
    return batch_size * length / (time.perf_counter() - started)


def _length_for(sampler: Sampler, batch_size: int, seconds: float) -> int:
    """Return how many samples take about `seconds`."""
    length = 20
    while length < 10**7:
        taken = batch_size * length / _rate(sampler, batch_size, length)
        if taken > seconds / 10:
            return max(20, round(length * seconds / taken))
        length *= 4
    return length


@dataclass(frozen=True)
class StartUp:
    """What a new process needs before it generates."""

    cold_seconds: float  # to the first sample, with an empty compilation cache
    warm_seconds: float  # to the first sample, with a filled one
    memory_mib: float  # peak of the process
    sampler_mib: float  # the sampler's part of it, compiler and state included

    def __str__(self) -> str:
        return (
            f"a new process: {self.warm_seconds:.2f} s to the first sample, "
            f"{self.cold_seconds:.2f} s if it compiles first; peak memory "
            f"{self.memory_mib:.0f} MiB, {self.sampler_mib:.0f} of it from the sampler"
        )


def measure_startup(config: WaveNetConfig) -> StartUp:
    """Start two processes, the first with an empty compilation cache.

    Raises:
        MachineError: A process failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "WAVENET_CACHE": str(Path(folder, "cache"))}
        runs = []
        for _ in range(2):
            worker = worker_process(_startup_meter, [to_dict(config)], "start-up", environment)
            with worker as measure:
                runs.append(measure(2000))
    return StartUp(runs[0][0], *runs[1])


def _startup_meter(plain_config: dict[str, Any]) -> Callable[[int], list[float]]:
    """Return a function that generates so many samples, and returns the fields of `StartUp`."""
    torch.set_num_threads(1)
    model = WaveNet(from_dict(WaveNetConfig, plain_config))

    def measure(length: int) -> list[float]:
        before, started = process_memory_mib(), time.perf_counter()
        sampler = make_sampler(model, "cpu")
        _rate(sampler, batch_size=1, length=1)
        seconds = time.perf_counter() - started
        _rate(sampler, batch_size=1, length=length)
        after = process_memory_mib()
        peak = max(after, process_memory_mib(peak=True))
        return [seconds, peak, after - before]

    return measure
