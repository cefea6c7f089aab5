"""Generation: one interface, a backend for each kind of machine.

`reference` is `model.step` in a loop and defines what every other backend must put out. `cpu` is
the whole loop compiled by Numba, a few dozen times as fast.
"""

import logging
import os

from wavenet.model import WaveNet
from wavenet.sampling.reference import ReferenceSampler
from wavenet.sampling.sampler import Sampler, SamplerState
from wavenet.utils.errors import ConfigError, MachineError, printable, require

BACKENDS = ("cpu", "reference")  # the fastest first
WEIGHT_DTYPES = ("float32", "bfloat16", "int8")

__all__ = [
    "BACKENDS",
    "WEIGHT_DTYPES",
    "ReferenceSampler",
    "Sampler",
    "SamplerState",
    "available_cores",
    "make_sampler",
]

log = logging.getLogger("wavenet")


def make_sampler(
    model: WaveNet, backend: str = "auto", *, num_threads: int = 1, weight_dtype: str = "float32"
) -> Sampler:
    """Return a sampler of a copy of `model` as it is now.

    Args:
        model: What to draw from; later changes of its weights do not reach the sampler.
        backend: A name of `BACKENDS`, or `auto` for the fastest that runs here.
        num_threads: Cores that the sampler may use; they change no bit of the signal. Several on one
            stream wait for each other at every sample: they pay where all are idle, and are far
            slower than one where a core is busy with something else.
        weight_dtype: Of the weights: `float32`, or by choice `bfloat16` or `int8`, which are faster
            and cost some likelihood.

    Raises:
        CheckpointError: A weight is NaN or infinite.
        ConfigError: No backend has that name, or it has no such threads or precision.
        EnvironmentFault: The backend asked for does not run here.
    """
    if weight_dtype not in WEIGHT_DTYPES:
        known = ", ".join(WEIGHT_DTYPES)
        raise ConfigError(f"no weight_dtype {printable(weight_dtype)!r}: choose one of {known}")
    if backend == "auto":
        try:
            return _cpu(model, num_threads, weight_dtype)
        except MachineError as fault:
            log.warning("generating with the slow reference sampler: %s", fault)
            return _reference(model, num_threads, weight_dtype)
    if backend == "cpu":
        return _cpu(model, num_threads, weight_dtype)
    if backend == "reference":
        return _reference(model, num_threads, weight_dtype)
    known = ", ".join(["auto", *BACKENDS])
    raise ConfigError(f"no sampler backend {printable(backend)!r}: choose one of {known}")


def available_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu(model: WaveNet, num_threads: int, weight_dtype: str) -> Sampler:
    require("numba", "generate")
    from wavenet.sampling.cpu import CpuSampler

    cores = available_cores()
    if not 1 <= num_threads <= cores:
        raise ConfigError(f"num_threads={num_threads}: choose from 1 to {cores}, the cores here")
    return CpuSampler(model, num_threads, weight_dtype)


def _reference(model: WaveNet, num_threads: int, weight_dtype: str) -> Sampler:
    if (num_threads, weight_dtype) != (1, "float32"):
        raise ConfigError(
            f"the reference sampler has one thread and float32; num_threads={num_threads} and "
            f"weight_dtype={weight_dtype} are for backend=cpu, of pip install 'torch-wavenet[generate]'"
        )
    return ReferenceSampler(model)
