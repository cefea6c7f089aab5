"""What the CUDA driver is asked for, recorded by one that does nothing."""

import copy
import ctypes
import pickle  # noqa: TID251 the test of a pickle
from typing import Any

import pytest
import torch

from tests.architectures import SMALL
from tests.gpu.recording_driver import Driver, record_gpu
from tests.gpu.stand_in.device import SamplerStandIn, needs_compiler
from tests.sampling.parity import noisy
from wavenet import sampling
from wavenet.config import WaveNetConfig
from wavenet.kernels.cuda.driver import CudaKernels
from wavenet.kernels.cuda.launch import Launch
from wavenet.model import WaveNet
from wavenet.sampling import Sampler, make_sampler
from wavenet.sampling.cuda import CudaSampler
from wavenet.sampling.cuda.estimate import MAX_STREAMS, min_streams
from wavenet.sampling.cuda.task import Task, program
from wavenet.utils.errors import ConfigError, MachineError


def test_the_kernel_is_loaded_for_its_gpu_and_may_take_all_shared_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record_gpu(monkeypatch)
    library = Driver()

    kernel = CudaKernels(program("bfloat16"), torch.device("cuda"), library)

    assert kernel.device == torch.device("cuda", 1)
    assert library.called("cuModuleLoadData")[1] == b"sampler-bfloat16 90"
    assert library.called("cuModuleGetFunction")[2] == b"sample_warps"
    assert library.called("cuDevicePrimaryCtxRetain")[1] == 1
    assert library.called("cuFuncSetAttribute")[1:] == (8, 232448)
    assert CudaKernels(program("float32"), torch.device("cuda", 0), Driver()).device.index == 0


def test_a_copy_of_kernels_loads_them_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    record_gpu(monkeypatch)
    library = Driver()
    kernel = CudaKernels(program("float32"), torch.device("cuda"), library)

    again = copy.copy(kernel)

    assert again.device == kernel.device
    loads = [call for call in library.calls if call[0] == "cuModuleLoadData"]
    assert len(loads) == 2
    wanted = program("float32")
    assert pickle.loads(pickle.dumps(wanted)) == wanted  # noqa: S301


@needs_compiler
def test_a_launch_has_a_block_of_32_threads_per_16_streams_and_its_arguments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record_gpu(monkeypatch)
    library, launches = Driver(ctypes.sizeof(Task)), list[Launch]()
    kernel = CudaKernels(program("float32"), torch.device("cuda"), library)
    stand_in = SamplerStandIn()

    def launch(one: Launch) -> None:
        launches.append(one)
        kernel.launch(one)
        SamplerStandIn.launch(stand_in, one)

    stand_in.launch = launch  # type: ignore
    CudaSampler(noisy(SMALL), stand_in).generate(5, batch_size=33)

    function, *sizes, shared, stream, _, extra = library.called("cuLaunchKernel")
    assert sizes == [3, 1, 1, 32, 1, 1]
    assert function.value == 5
    assert (shared, stream.value, extra) == (launches[0].shared_bytes, 77, None)
    assert library.tasks == [bytes(launches[0].task())]
    task = Task.from_buffer_copy(library.tasks[0])
    assert (task.length, task.warps, task.num_blocks) == (5, 3, 3)
    assert task.queues == launches[0].tensors["queues"].data_ptr()


def test_an_error_of_the_driver_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record_gpu(monkeypatch)
    with pytest.raises(MachineError, match="cuModuleLoadData failed with error 209 .* as it happe"):
        CudaKernels(program("float32"), torch.device("cuda"), Driver(cuModuleLoadData=209))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_backend_is_refused_and_auto_does_without() -> None:
    model = noisy(SMALL)
    with pytest.raises(MachineError, match="needs an NVIDIA GPU, and PyTorch finds none"):
        make_sampler(model, "cuda")
    with pytest.raises(ConfigError, match="backend=cuda has no num_threads, got 2"):
        make_sampler(model, "cuda", num_threads=2)
    assert make_sampler(model, "auto", streams=10**6).name != "cuda"


@needs_compiler
def test_auto_takes_the_kernel_for_many_streams_where_it_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = noisy(SMALL)
    kernels = {"float32": SamplerStandIn(), "bfloat16": SamplerStandIn("bfloat16")}

    def make(model: WaveNet, num_threads: int, weight_dtype: str) -> Sampler:
        return CudaSampler(model, kernels[weight_dtype], weight_dtype)

    def fail(*arguments: Any) -> Sampler:
        raise MachineError("NVRTC is missing")

    def name(weight_dtype: str, streams: int) -> str | None:
        return getattr(sampling._gpu_sampler(model, weight_dtype, streams), "name", None)

    monkeypatch.setattr(sampling, "_cuda_sampler", make)
    with caplog.at_level("INFO", "wavenet"):
        assert name("float32", 15) == "graph"
        assert name("bfloat16", 15) is None  # the CPU has it
        assert not caplog.text
        assert name("float32", 16) == name("bfloat16", 16) == "cuda"
        assert "for 16 streams (estimated to be the fastest from 16 on)" in caplog.text
        monkeypatch.setattr(sampling, "_cuda_sampler", fail)
        assert name("float32", 16) == "graph"
        assert "not using the cuda sampler: NVRTC is missing" in caplog.text


def test_wide_models_take_more_streams_to_pay() -> None:
    wide = WaveNetConfig(residual_channels=128, gate_channels=256)
    widest = WaveNetConfig(residual_channels=2048, gate_channels=4096)

    assert min_streams(WaveNetConfig(), "bfloat16") == 16
    assert 16 < min_streams(WaveNetConfig(), "float32") < min_streams(wide, "float32")
    assert min_streams(widest, "bfloat16") == MAX_STREAMS
