"""The kernel under sanitizers, on the stand-in for a GPU: no race, nothing out of bounds.

ThreadSanitizer reports what no barrier orders, whatever the order of threads happened to be.
Planted faults are found: a test of the test.
"""

import contextlib
import os
from typing import Any

import pytest
import torch

from tests.architectures import conditions_for
from tests.gpu.stand_in.device import SamplerStandIn, cuda_sampler, needs_compiler
from tests.sampling.graph.test_capture import config_of
from tests.sampling.parity import noisy
from wavenet.distributions import SamplingConfig

pytestmark = needs_compiler
RACE = "WARNING: ThreadSanitizer: data race"
TRUNCATED = SamplingConfig(temperature=0.8, top_k=5, top_p=0.9)
CASES = [
    *((one, name) for one in ("float32", "bfloat16") for name in ("conditioned", "gaussians")),
    *(("float32", "three-taps"), ("bfloat16", "three-taps")),
    *(("bfloat16", "predicted"), ("bfloat16", "predicted-scalar")),
]
FAULTS = {  # text of the kernel's files, its replacement
    "no barrier before a mixture is read": (
        "if (how.num_mixtures) sync_warp();",
        "",
        "gaussians",
    ),
    "no barrier before its parameters are replaced": (
        "    sync_warp();  // parameters are read no more",
        "    //",
        "gaussians",
    ),
    "activations of another thread": (
        "multiply<PAIRS>(sums, own.z,",
        "multiply<PAIRS>(sums, own.z + (lane == 5),",
        "classes",
    ),
    "logits in place of another thread's slots": (
        "own.logits = (float*)own.seen;",
        "own.logits = (float*)(own.seen - lane) + lane;",
        "classes",
    ),
    "one thread's part of the queues for another": (
        "warp_number() * width * (UNITS * 32) +\n                lane;",
        "warp_number() * width * (UNITS * 32) +\n                lane % 16;",
        "classes",
    ),
    "scratch memory that two warps share": (
        "(warp_number() * task.num_blocks + number)",
        "(warp_number() / 2 * task.num_blocks + number)",
        "classes",
    ),
    "past samples of another thread": (
        "(warp_number() * 32 + lane) * 2;\n  return",
        "(warp_number() * 32 + lane % 16) * 2;\n  return",
        "predicted",
    ),
}
OUT_OF_BOUNDS = [
    ("predicted", "(own.order - 1 - age)", "(own.order - age)"),
    ("conditioned", "for (int i = 0; i < local; i++)", "for (int i = 0; i < local + 1; i++)"),
    ("conditioned", "own.hidden = own.seen + (", "own.hidden = own.seen + 99 + ("),
]
if "WAVENET_FULL" not in os.environ:  # each of them is compiled, for seconds
    FAULTS = {
        name: FAULTS[name]
        for name in ("no barrier before a mixture is read", "scratch memory that two warps share")
    }
    OUT_OF_BOUNDS = OUT_OF_BOUNDS[:1]


def stand_in(name: str, weight_dtype: str, *args: Any, **options: Any) -> SamplerStandIn:
    """A kernel for a model of `MODELS`."""
    return SamplerStandIn(weight_dtype, *args, predicts="predicted" in name, **options)


def reports_of(kernel: SamplerStandIn, weight_dtype: str, name: str) -> str:
    """Generate with a kernel in every way, and return what its sanitizer has reported."""
    config = config_of(name)
    model = noisy(config)
    sampler = cuda_sampler(model, weight_dtype, kernel)
    start: dict[str, Any] = conditions_for(config, 9, 40)
    if config.has_global_conditioning:
        start["guidance_scale"] = 2.0
    sampling = TRUNCATED if config.output_distribution == "categorical" else SamplingConfig()
    state = sampler.init_state(9, torch.rand(9, 2) * 2 - 1, **start)
    for length in (3, 2):
        sampler.generate_next(state, length, sampling)
    start.pop("guidance_scale", None)
    sampler.teacher_forced(torch.zeros(9, 3), **start)
    return kernel.reports


@pytest.mark.parametrize(("weight_dtype", "name"), CASES)
def test_threads_of_the_kernel_do_not_race(weight_dtype: str, name: str) -> None:
    assert reports_of(stand_in(name, weight_dtype, "thread", seed=1), weight_dtype, name) == ""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_race_is_reported(fault: str) -> None:
    old, new, name = FAULTS[fault]
    kernel = stand_in(name, "bfloat16", "thread", {old: new})
    config = config_of(name)
    start: dict[str, Any] = conditions_for(config, 20, 3)

    with contextlib.suppress(Exception):  # whatever the fault does to the signal
        cuda_sampler(noisy(config), "bfloat16", kernel).generate(3, batch_size=20, **start)

    assert RACE in kernel.reports


@pytest.mark.parametrize(("weight_dtype", "name"), CASES)
def test_the_kernel_stays_within_its_memory(weight_dtype: str, name: str) -> None:
    assert reports_of(stand_in(name, weight_dtype, "address"), weight_dtype, name) == ""


@pytest.mark.parametrize(("name", "old", "new"), OUT_OF_BOUNDS)
def test_a_step_out_of_bounds_is_reported(name: str, old: str, new: str) -> None:
    kernel = stand_in(name, "bfloat16", "address", {old: new})

    with contextlib.suppress(Exception):  # whatever the fault does to the signal
        reports_of(kernel, "bfloat16", name)

    assert "AddressSanitizer: heap-buffer-overflow" in kernel.reports


def test_lanes_that_part_at_a_product_are_reported() -> None:
    """On a GPU they would hang, or compute something else."""
    old = "compute_input(task, own, signals, t, lane);"
    kernel = SamplerStandIn("bfloat16", "thread", {old: "if (lane == 3) sync_warp();\n" + old})

    with contextlib.suppress(Exception):  # whatever the fault does to the signal
        cuda_sampler(noisy(config_of("classes")), "bfloat16", kernel).generate(3)

    assert "stand-in: divergence" in kernel.reports
