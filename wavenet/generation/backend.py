"""Which sampler generates, on which device and with how many threads."""

import importlib.util

import torch

from wavenet.generation.options import MIN_GPU_STREAMS, GenerateCommand
from wavenet.model import WaveNet
from wavenet.sampling import Sampler, make_sampler
from wavenet.utils.cores import available_cores
from wavenet.utils.device import find_device
from wavenet.utils.errors import ConfigError
from wavenet.utils.memory import check_memory


def choose_device(options: GenerateCommand) -> torch.device:
    """Return where the model of the options computes; `auto` never takes a slower GPU.

    Raises:
        ConfigError: There is no such device, or the backend does not run on it.
    """
    on_cpu = options.backend == "cpu" or (
        options.backend != "cuda" and options.weight_dtype != "float32"
    )
    if options.device == "cuda" and on_cpu:
        raise ConfigError(
            f"device=cuda with backend={options.backend} and weight_dtype={options.weight_dtype}: "
            "the cpu sampler does not run on a GPU; use backend=graph with weight_dtype=float32, "
            "or backend=cuda"
        )
    if options.device == "cpu" and options.backend == "cuda":
        raise ConfigError("device=cpu with backend=cuda: remove device=cpu, or use backend=cpu")
    streams = max(options.num_samples, options.batch_size)
    pays = options.backend in ("graph", "cuda") or (
        options.backend == "auto"
        and options.weight_dtype == "float32"
        and options.num_threads is None
        and streams >= MIN_GPU_STREAMS
    )
    return find_device("cpu" if options.device == "auto" and not pays else options.device)


def build_sampler(options: GenerateCommand, model: WaveNet) -> Sampler:
    """Return the sampler of the options, whose model is on the device that it computes on.

    The default is one thread per recording: several threads on one recording wait for each other
    at every sample, so they are faster on an idle machine only.

    Raises:
        ConfigError: The backend does not run the model.
        MachineError: The past samples that the convolutions keep need more memory than is free.
    """
    config, streams = model.config, max(options.num_samples, options.batch_size)
    past = (config.kernel_size - 1) * sum(config.dilations) * config.residual_channels
    name = "num_samples" if streams == options.num_samples else "batch_size"
    fewer = {"instead": f"lower {name}={streams}"} if streams > 1 else {}
    check_memory(4 * past * streams, "the past of the dilated convolutions", **fewer)
    num_threads = options.num_threads
    if num_threads is None:
        on_cpu = next(model.parameters()).device.type == "cpu"
        may_compile = on_cpu and options.backend in ("auto", "cpu")
        compiled = may_compile and importlib.util.find_spec("numba")
        num_threads = min(available_cores(), streams) if compiled else 1
    return make_sampler(
        model,
        options.backend,
        num_threads=num_threads,
        weight_dtype=options.weight_dtype,
        streams=streams * (1 if options.guidance_scale == 1 else 2),
    )
