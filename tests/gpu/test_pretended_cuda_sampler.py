"""The tensors that the cuda sampler hands to its kernel, on a pretended CUDA device.

The kernel sees addresses only: a tensor of the CPU among them would end the process.
"""

from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from tests.architectures import conditions_for
from tests.pretend import CUDA, pretended_gpu, to_gpu
from tests.sampling.graph.test_capture import MODELS, config_of, draws_of
from tests.sampling.parity import noisy
from wavenet.config import WaveNetConfig
from wavenet.kernels.cuda.launch import Launch
from wavenet.sampling import make_sampler
from wavenet.sampling.cuda import CudaSampler
from wavenet.sampling.cuda.packing import pack_weights
from wavenet.sampling.cuda.warp_state import Layout


class Recorder:
    """A kernel that does nothing."""

    max_shared_bytes = 227 * 1024

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.devices: set[str] = set()
        self.launches = 0

    def launch(self, launch: Launch) -> None:
        self.devices |= {str(tensor.device) for tensor in launch.tensors.values()}
        self.launches += 1


def gpu_sampler(config: WaveNetConfig) -> tuple[CudaSampler, Recorder]:
    """A sampler that is moved to the pretended device, and its kernel."""
    with unset_fake_temporarily():
        sampler = CudaSampler(noisy(config), Recorder(torch.device("cpu")))
    to_gpu(sampler.model)
    kernel = Recorder(CUDA)
    sampler.kernel = kernel
    sampler.weights = pack_weights(sampler.model, sampler.widths, sampler.dtype)
    sampler.layout = Layout(config, sampler.model.distribution, sampler.dtype, CUDA)
    return sampler, kernel


@pytest.mark.parametrize("name", [name for name in MODELS if "past" not in name])
def test_the_kernel_gets_tensors_of_its_device_only(name: str) -> None:
    config = config_of(name)
    start: dict[str, Any] = conditions_for(config, 2, 60)
    guided = {**start, "guidance_scale": 2.0 if config.has_global_conditioning else 1.0}
    reference = make_sampler(noisy(config), "reference")
    with pretended_gpu():
        sampler, kernel = gpu_sampler(config)

        for sampling in draws_of(config):
            state = sampler.init_state(2, torch.zeros(2, 9), **guided)
            signal = sampler.generate_next(state, 5, sampling)
            sampler.generate_next(state.select([1]), 3, sampling)
        noise = torch.rand(2, 4, reference.model.distribution.num_noise)
        sampler.generate_next(reference.init_state(2, **start), 4, noise=noise)
        params = sampler.teacher_forced(torch.zeros(2, 20), **start)

    assert (signal.device.type, params.device.type) == ("cuda", "cuda")
    assert kernel.devices == {"cuda:0"}
    assert kernel.launches == 3 * len(draws_of(config)) + 2
