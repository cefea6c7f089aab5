"""All that needs a GPU, in one run of less than ten minutes: `make gpu`.

The tests that need one, parity of the samplers with the reference, speed of sampling and training
beside their goals, losses beside the CPU's. It prints tables and writes them as JSON. `--tiny` does
the same on a CPU and the stand-in for a GPU, to test this program.

The goals are estimates for an H200 (docs/explanation/gpu.md).
"""

import argparse
import functools
import json
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch

from tests.gpu.test_pretended_training import config_of
from tests.gpu.test_training import RANDOM, TOLERANCE, build, losses_of
from wavenet.benchmarks.training_speed import measure_training, training_cases
from wavenet.config import WaveNetConfig
from wavenet.kernels.cuda.driver import CudaKernels
from wavenet.kernels.cuda.gated_activation import PROGRAM, CudaGatedActivation
from wavenet.kernels.cuda.launch import Launcher
from wavenet.model import WaveNet
from wavenet.modules import GatedActivation
from wavenet.modules.rows import MakeGatedActivation
from wavenet.presets import MODEL_SIZES
from wavenet.sampling import Sampler, make_sampler

SIZES = {name[0].upper(): config for name, config in MODEL_SIZES.items()}
TINY = {
    "S": WaveNetConfig(
        quantization_channels=16,
        dilations=(1, 2),
        residual_channels=8,
        gate_channels=16,
        skip_channels=8,
        head_channels=8,
    )
}
STREAMS = (1, 64, 1024, 4096, 16896)
BACKENDS = (("graph", "float32"), ("cuda", "float32"), ("cuda", "bfloat16"))
GOALS = {  # samples/s of all streams, of `STREAMS` in order
    ("S", "graph", "float32"): (3e3, None, None, 5e6, None),
    ("M", "graph", "float32"): (2.3e3, None, None, 4e6, None),
    ("L", "graph", "float32"): (2.5e3, None, None, 4e6, None),
    ("S", "cuda", "bfloat16"): (None, 2e6, 25e6, 100e6, 300e6),
    ("M", "cuda", "bfloat16"): (None, 0.7e6, 10e6, 40e6, 110e6),
    ("L", "cuda", "bfloat16"): (None, 0.3e6, 5e6, 15e6, 45e6),
    ("S", "cuda", "float32"): (None, None, None, None, 70e6),
    ("M", "cuda", "float32"): (None, None, None, None, 15e6),
    ("L", "cuda", "float32"): (None, None, None, None, 6e6),
}
NO_GOALS = (None,) * len(STREAMS)
TRAINING_GOAL = 4e6  # samples/s of M in bfloat16, and more than the compiled baseline
CURVES = ("categorical", "kernel-3", "gaussian", "nearest", "repeat")
UPDATES = 20
SUITE_SECONDS = 240
MEASURED_SECONDS = 0.3


def main(arguments: list[str] | None = None) -> int:
    """Run everything; return 1 where a test failed or a loss is off."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="JSON to write")
    parser.add_argument("--tiny", action="store_true", help="on a CPU and the stand-in")
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        print("make gpu needs a GPU, and PyTorch finds none; --tiny runs on a CPU")
        return 5
    found: dict[str, Any] = {"machine": machine(tiny=options.tiny)}
    steps: list[tuple[str, Callable[[], Any]]] = [
        ("suite", lambda: suite(tiny=options.tiny)),
        ("parity", lambda: list(parity(tiny=options.tiny))),
        ("sampling", lambda: list(sampling(tiny=options.tiny))),
        ("gates", lambda: list(gates(tiny=options.tiny))),
        ("training", lambda: training(tiny=options.tiny)),
        ("losses", lambda: list(losses(tiny=options.tiny))),
    ]
    for name, step in steps:
        started = time.perf_counter()
        try:
            found[name] = step()
        except Exception as error:  # noqa: BLE001 the other steps are worth their time
            found[name] = {"error": f"{type(error).__name__}: {error}"}
        seconds = time.perf_counter() - started
        print(f"\n{name} ({seconds:.0f} s)", *lines_of(found[name]), sep="\n  ", flush=True)
        options.output.write_text(json.dumps(found, indent=1))  # each step as soon as it is done
    failed = found["suite"].get("failed") or any(
        not one["within"] for one in found["losses"] if isinstance(one, dict)
    )
    return 1 if failed or any("error" in one for one in found.values()) else 0


def machine(*, tiny: bool) -> dict[str, Any]:
    """What this runs on."""
    facts: dict[str, Any] = {"torch": torch.__version__, "cuda": torch.version.cuda}
    if not tiny:
        properties = torch.cuda.get_device_properties(0)
        facts |= {"gpu": properties.name, "capability": [properties.major, properties.minor]}
    return facts


def suite(*, tiny: bool) -> dict[str, Any]:
    """Outcome of each test that needs a GPU."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "junit.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "gpu"]
        command += ["-p", "no:cacheprovider", f"--junitxml={path}"]
        command += ["tests/gpu/test_cuda_sampler.py", "--collect-only"] if tiny else ["tests/gpu"]
        try:
            subprocess.run(command, timeout=SUITE_SECONDS, capture_output=True, check=False)
        except subprocess.TimeoutExpired:
            return {"failed": ["not done in time"]}
        cases = ElementTree.parse(path).iter("testcase")  # noqa: S314 our own
        failed = (one for one in cases if {part.tag for part in one} & {"failure", "error"})
        bad = [one.get("name") for one in failed]
        total = sum(1 for _ in ElementTree.parse(path).iter("testcase"))  # noqa: S314
    return {"failed": bad, "tests": total}


def models(*, tiny: bool) -> Iterator[tuple[str, WaveNet]]:
    """A model of each size, whose outputs differ from sample to sample."""
    for size, config in (TINY if tiny else SIZES).items():
        torch.manual_seed(0)
        model = WaveNet(config)
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1.5)
        yield size, model if tiny else model.cuda()


def sampler_of(model: WaveNet, backend: str, weight_dtype: str, *, tiny: bool) -> Sampler:
    """The sampler, of a CPU and the stand-in where that is wanted."""
    if tiny and backend == "cuda":
        from tests.gpu.stand_in.device import cuda_sampler

        return cuda_sampler(model, weight_dtype)
    return make_sampler(model, backend, weight_dtype=weight_dtype)


def parity(*, tiny: bool) -> Iterator[dict[str, Any]]:
    """Differences from the reference, of parameters and of free-running signals."""
    length = 8 if tiny else 200
    for size, model in models(tiny=tiny):
        reference = make_sampler(model.cpu(), "reference")
        waveform = torch.rand(2, length) * 2 - 1
        params = reference.teacher_forced(waveform)
        signal = reference.generate(length, batch_size=2)
        for backend, weight_dtype in BACKENDS:
            model = model if tiny else model.cuda()
            sampler = sampler_of(model, backend, weight_dtype, tiny=tiny)
            found = sampler.teacher_forced(waveform).cpu() - params
            equal = sampler.generate(length, batch_size=2).cpu() == signal
            yield {
                "size": size,
                "backend": backend,
                "weight_dtype": weight_dtype,
                "max_difference": float(found.abs().max()),
                "of_largest": float(params.abs().max()),
                "equal_samples": float(equal.float().mean()),
            }


def sampling(*, tiny: bool) -> Iterator[dict[str, Any]]:
    """Samples per second, summed over streams, beside the goals."""
    for size, model in models(tiny=tiny):
        for backend, weight_dtype in BACKENDS:
            sampler = sampler_of(model, backend, weight_dtype, tiny=tiny)
            goals = GOALS.get((size, backend, weight_dtype), NO_GOALS)
            for streams, goal in zip((1, 20) if tiny else STREAMS, goals, strict=False):
                one: dict[str, Any] = {"size": size, "backend": backend}
                one |= {"weight_dtype": weight_dtype, "streams": streams, "goal": goal}
                try:
                    rates = sampling_rates(sampler, streams, tiny=tiny)
                except torch.OutOfMemoryError:
                    yield {**one, "rate": None, "note": "out of memory"}
                    continue
                yield {**one, "rate": median(rates), "rates": rates}


def sampling_rates(sampler: Sampler, streams: int, *, tiny: bool) -> list[float]:
    """Three measurements, after one that is not counted and sets their length."""
    state, length = sampler.init_state(streams), 4 if tiny else 32
    rates = []
    for _ in range(4):
        synchronize()
        started = time.perf_counter()
        sampler.generate_next(state, length)
        synchronize()
        seconds = time.perf_counter() - started
        rates.append(length * streams / seconds)
        if not tiny:
            length = max(8, min(4096, int(length * MEASURED_SECONDS / seconds)))
    return rates[1:]


def gates(*, tiny: bool) -> Iterator[dict[str, Any]]:
    """Time of the gates of one block of M, fused and PyTorch's, and what memory allows."""
    rows, half = (40, 16) if tiny else (8 * 16000, 64)
    device = torch.device("cpu" if tiny else "cuda")
    for dtype in (torch.float32, torch.bfloat16):
        y = torch.randn(rows, 2 * half, device=device).to(dtype)
        bias, z = torch.randn(2 * half, device=device), torch.randn(rows, half, device=device)
        z, seconds = z.to(dtype), dict[tuple[str, str], float]()
        for kind, make in (("plain", GatedActivation), ("fused", fused_gates(tiny=tiny))):
            made = make(rows, half, y)
            seconds["forward", kind] = seconds_of(lambda: made.forward(y, bias, z))  # noqa: B023
            seconds["backward", kind] = seconds_of(lambda: made.backward(y, bias, z))  # noqa: B023
        for way, numbers in (("forward", 3), ("backward", 6)):
            fused, plain = seconds[way, "fused"], seconds[way, "plain"]
            one: dict[str, Any] = {"dtype": str(dtype), "way": way, "fused_us": 1e6 * fused}
            one |= {"plain_us": 1e6 * plain, "of_plain": fused / plain}
            yield {**one, "bytes_per_second": numbers * rows * half * y.element_size() / fused}


def fused_gates(*, tiny: bool) -> MakeGatedActivation:
    """The fused gate, of the stand-in where that is wanted."""
    if not tiny:
        kernels: Launcher = CudaKernels(PROGRAM, torch.device("cuda"))
    else:
        from tests.gpu.stand_in.device import StandIn

        kernels = StandIn(PROGRAM)
    return functools.partial(CudaGatedActivation, kernels=kernels)


def seconds_of(call: Callable[[], Any], calls: int = 20) -> float:
    """Median time of a call, of five measurements after one that is not counted."""
    times = []
    for _ in range(6):
        synchronize()
        started = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize()
        times.append((time.perf_counter() - started) / calls)
    return median(times[1:])


def training(*, tiny: bool) -> dict[str, Any]:
    """Samples per second of training M in bfloat16, with and without fused gates, and compiled."""
    kinds = [] if tiny else ["baseline_compiled"]  # each takes a process of its own
    shapes = ["2x400"] if tiny else ["8x16000"]
    precision, device = ("32-true", "cpu") if tiny else ("bf16-mixed", "cuda")
    cases = training_cases(shapes, [*kinds, "fused", "fused_plain_gates"], [precision], device)
    config = TINY["S"] if tiny else SIZES["M"]
    measured = measure_training(config, cases, repeats=1 if tiny else 3, seconds=0.1 if tiny else 2)
    rates = {one.case.implementation: one.median for one in measured}
    gain = {"of_plain_gates": rates["fused"] / rates["fused_plain_gates"]}
    if kinds:
        gain["of_baseline"] = rates["fused"] / rates[kinds[0]]
    return {**rates, "goal": TRAINING_GOAL, **gain}


def losses(*, tiny: bool) -> Iterator[dict[str, Any]]:
    """Loss curves of small models of several kinds, and how far they are from the CPU's."""
    count = 2 if tiny else UPDATES
    device = torch.device("cpu" if tiny else "cuda")
    for case in CURVES[:1] if tiny else CURVES:
        config = WaveNetConfig(**{**vars(config_of(case)), **dict.fromkeys(RANDOM, 0.0)})
        for precision, tolerance in TOLERANCE.items():
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder)
                exact = losses_of(build(config, run, torch.device("cpu")), count)
                found = losses_of(build(config, run, device, precision=precision), count)
            off = max(abs(a - b) / abs(b) for a, b in zip(found, exact, strict=True))
            yield {
                "case": case,
                "precision": precision,
                "within": off <= tolerance,
                "largest_relative_difference": off,
                "loss": found,
                "loss_on_cpu": exact,
            }


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def lines_of(found: Any) -> Iterator[str]:
    """The results of a step as lines of a table; lists of numbers are in the JSON only."""
    for one in found if isinstance(found, list) else [found]:
        yield "  ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in one.items()
            if not (isinstance(value, list) and value and isinstance(value[0], float))
        )


if __name__ == "__main__":
    sys.exit(main())
