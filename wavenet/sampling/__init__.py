"""Sampling: one interface, one backend per kind of machine.

`reference` is `WaveNet.step` in a loop; it defines the output of every other backend. `cpu` is the
same loop compiled by Numba, a few dozen times as fast. `graph` is the step as tensor operations: a
CUDA graph on a GPU, and several times as fast as `reference` where Numba is missing. `cuda` is a
kernel for many streams on NVIDIA GPUs.
"""

import logging

import torch
from torch import nn

from wavenet.model import WaveNet, unwrap
from wavenet.sampling.graph import GraphSampler
from wavenet.sampling.reference import ReferenceSampler
from wavenet.sampling.sampler import Sampler
from wavenet.sampling.state import SamplerState, check_steps, unsupported_model
from wavenet.utils.arrays import whole_number
from wavenet.utils.cores import available_cores
from wavenet.utils.errors import ConfigError, MachineError, printable, require

BACKENDS = ("cuda", "cpu", "graph", "reference")  # the fastest first
WEIGHT_DTYPES = ("float32", "bfloat16", "int8")

__all__ = [
    "BACKENDS",
    "WEIGHT_DTYPES",
    "GraphSampler",
    "ReferenceSampler",
    "Sampler",
    "SamplerState",
    "make_sampler",
]

log = logging.getLogger("wavenet")


def make_sampler(
    model: nn.Module,
    backend: str = "auto",
    *,
    num_threads: int = 1,
    weight_dtype: str = "float32",
    streams: int = 1,
) -> Sampler:
    """Return a sampler with a copy of `model`.

    Args:
        model: A `WaveNet`, or one wrapped by torch.compile or DistributedDataParallel. Later
            changes of its weights do not affect the sampler.
        backend: A name of `BACKENDS`, or `auto` for the fastest that supports machine and model:
            for a model on a CUDA device `cuda` or `graph`, else `cpu`, or `graph` without Numba.
            `reference` samples from any model whose modules `step`, also subclassed and modified
            ones, the others from the standard one.
        num_threads: Cores to use; their number changes no bit of the signal. Several threads on one
            stream wait for each other at every sample: this pays on idle cores. Where a core is
            busy with something else, one thread goes on alone most of the time.
        weight_dtype: `float32`, or `bfloat16` or `int8`, which are faster and cost some likelihood.
        streams: Streams that will be generated at once, for which `auto` chooses: one per item, two
            with classifier-free guidance.

    Raises:
        CheckpointError: A weight is NaN or infinite.
        ConfigError: Unknown backend, number of threads or weight dtype, or the backend does not
            support them or the model.
        MachineError: The backend does not run on this machine.
        TypeError: There is no `WaveNet` in `model`.
        ValueError: `num_threads` is no whole number.

    Example:
        >>> import wavenet
        >>> model = wavenet.WaveNet(wavenet.WaveNetConfig(dilations=(1, 2, 4)))
        >>> sampler = wavenet.make_sampler(model)
    """
    wavenet = unwrap(model)
    check_steps(wavenet)
    if any(weight.is_meta for weight in wavenet.parameters()):
        raise ConfigError("the model is on the meta device, its weights have no values: load them")
    cores = available_cores()
    if not 1 <= whole_number("num_threads", num_threads) <= cores:
        raise ConfigError(
            f"num_threads must be 1 to {cores}, the available cores, got {num_threads}"
        )
    if weight_dtype not in WEIGHT_DTYPES:
        known = ", ".join(WEIGHT_DTYPES)
        raise ConfigError(f"unknown weight_dtype {printable(weight_dtype)!r}: use one of {known}")
    if backend == "auto":
        return _fastest_sampler(wavenet, num_threads, weight_dtype, streams)
    if backend == "cuda":
        return _cuda_sampler(wavenet, num_threads, weight_dtype)
    if backend == "cpu":
        return _cpu_sampler(wavenet, num_threads, weight_dtype)
    if backend not in BACKENDS:
        known = ", ".join(["auto", *BACKENDS])
        raise ConfigError(f"unknown sampler backend {printable(backend)!r}: use one of {known}")
    given = [f"num_threads={num_threads}"] * (num_threads != 1)
    given += [f"weight_dtype={weight_dtype}"] * (weight_dtype != "float32")
    if given:
        raise ConfigError(
            f"backend={backend} has one thread and float32: use backend=cpu for "
            f"{' and '.join(given)} (pip install 'torch-wavenet[generate]')"
        )
    return GraphSampler(wavenet) if backend == "graph" else ReferenceSampler(wavenet)


def _fastest_sampler(model: WaveNet, num_threads: int, weight_dtype: str, streams: int) -> Sampler:
    """Return the fastest sampler that supports machine and model, and log which."""
    reason = unsupported_model(model)
    if reason is not None:
        log.warning("using the slow reference sampler: %s", reason)
        return make_sampler(model, "reference", num_threads=num_threads, weight_dtype=weight_dtype)
    if next(model.parameters()).is_cuda and weight_dtype != "int8":
        sampler = _gpu_sampler(model, weight_dtype, streams)
        if sampler is not None:
            return sampler
    try:
        sampler = _cpu_sampler(model, num_threads, weight_dtype)
    except MachineError as error:
        log.warning("using the graph sampler, which is slower than cpu: %s", error)
        return make_sampler(model, "graph", num_threads=num_threads, weight_dtype=weight_dtype)
    log.debug("using the cpu sampler")
    return sampler


def _gpu_sampler(model: WaveNet, weight_dtype: str, streams: int) -> Sampler | None:
    """Return the faster of the samplers for a model on a GPU; `None` where there is none."""
    from wavenet.sampling.cuda.estimate import min_streams

    least = min_streams(model.config, weight_dtype)
    if streams >= least:
        try:
            sampler = _cuda_sampler(model, 1, weight_dtype)
        except (ConfigError, MachineError) as error:
            log.info("not using the cuda sampler: %s", error)
        else:
            log.info(
                "using the cuda sampler for %d streams (estimated to be the fastest from %d on)",
                *(streams, least),
            )
            return sampler
    if weight_dtype != "float32":
        return None
    log.debug("using the graph sampler: the model is on a GPU")
    return GraphSampler(model)


def _cuda_sampler(model: WaveNet, num_threads: int, weight_dtype: str) -> Sampler:
    from wavenet.kernels.cuda.driver import CudaKernels
    from wavenet.sampling.cuda import CudaSampler
    from wavenet.sampling.cuda.cuda_sampler import check_supported
    from wavenet.sampling.cuda.task import program

    if num_threads != 1:
        raise ConfigError(f"backend=cuda has no num_threads, got {num_threads}: leave it out")
    check_supported(model, weight_dtype)
    device = next(model.parameters()).device
    gpu = device if device.type == "cuda" else torch.device("cuda")
    predicts = model.predictor is not None
    kernel = CudaKernels(program(weight_dtype, predicts=predicts), gpu)
    return CudaSampler(model, kernel, weight_dtype)


def _cpu_sampler(model: WaveNet, num_threads: int, weight_dtype: str) -> Sampler:
    require("numba", "generate")
    from wavenet.sampling.cpu import CpuSampler

    return CpuSampler(model, num_threads, weight_dtype)
