"""An update of the weights of every kind of model on a CUDA device, which is pretended."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.architectures import SMALL
from tests.pretend import CUDA, PretendedGpu, pretended_gpu, to_gpu
from tests.training.small import build_loop
from wavenet.config import AudioConfig, LocalConfig, MelConfig, WaveNetConfig
from wavenet.distributions import LogisticMixture
from wavenet.kernels.cuda import gated_activation
from wavenet.kernels.cuda.launch import Launch
from wavenet.model import WaveNet
from wavenet.modules import GlobalConditioner, fused_stack, stack_weights
from wavenet.training import loop as loop_module
from wavenet.training.acceleration import accelerate
from wavenet.training.loader import Batch
from wavenet.training.loop import Objective, TrainingLoop
from wavenet.training.optim import build_optimizer
from wavenet.training.options import OptimOptions, TrainerOptions
from wavenet.training.state import TrainingState

MEL = MelConfig(sample_rate=8000, n_fft=64, hop_length=16, win_length=64, n_mels=5, f_max=4000.0)
SPEAKERS = {"num_speakers": 3, "conditioning_dropout": 0.5}
MIXTURE = {"quantization_channels": 65536, "output_distribution": "logistic_mixture"}
GAUSSIAN = {**MIXTURE, "output_distribution": "gaussian_mixture"}
CASES: dict[str, dict[str, Any]] = {
    "categorical": {},
    "companding": {"companding": "mu-law-floor", "input_type": "scalar"},
    "scalar": {"input_type": "scalar", "input_kernel_size": 3},
    "kernel-3": {"kernel_size": 3, "dropout": 0.1, "weight_norm": True, "input_kernel_size": 2},
    "scales": {"residual_scale": 0.5**0.5, "skip_scale": 0.3},
    "no-bias": {"bias": False},
    "speakers": SPEAKERS,
    "vector": {**SPEAKERS, "global_in_channels": 2},
    "logistic": {**MIXTURE, "num_mixtures": 3, "input_type": "scalar"},
    "gaussians": {**GAUSSIAN, "num_mixtures": 2},
    "gaussian": {**GAUSSIAN, "num_mixtures": 1, "input_type": "scalar", **SPEAKERS},
    "nearest": {"local": {"lookahead": 1, "context_dilations": (1, 2)}},
    "centered": {"local": {"upsample": "centered"}, "weight_norm": True},
    "transposed": {"local": {"upsample": "transposed"}},
    "shared": {"local": {"upsample": "shared"}, "dropout": 0.1},
    "bands": {"local": {"upsample": "bands"}},
    "repeat": {"local": {"upsample": "repeat"}, **SPEAKERS, "dropout": 0.1},
}
LENGTH, ITEMS = 48, 2


def config_of(case: str) -> WaveNetConfig:
    options = {**vars(SMALL), **CASES[case]}
    if "local" in CASES[case]:
        options["local"] = LocalConfig(
            in_channels=MEL.n_mels, channels=4, upsample_scales=(4, 4), **CASES[case]["local"]
        )
    return WaveNetConfig(**options)


def batch_of(model: WaveNet) -> Batch:
    """A batch as the loader gives it, on the CPU."""
    batch = {
        "waveform": torch.zeros(ITEMS, LENGTH),
        "mask": torch.ones(ITEMS, LENGTH, dtype=torch.bool),
        "count": torch.tensor(float(ITEMS * LENGTH)),
    }
    if model.config.local is not None:
        batch["around"] = torch.zeros(ITEMS, LENGTH + MEL.n_fft)
    if model.config.num_speakers:
        batch["speaker"] = torch.tensor([-1, 2])
    return batch


def build(case: str, run: Path, **options: Any) -> TrainingLoop:
    """The loop of a run on the CPU."""
    config = config_of(case)
    audio = AudioConfig(sample_rate=8000, mel=MEL if config.local is not None else None)
    state = TrainingState(WaveNet(config), OptimOptions())
    accelerate(state.model, TrainerOptions(**options))
    objective = Objective(state.model, audio)
    loop = build_loop(run, state, max_steps=2000, **options)
    loop.objective = objective
    return loop


def move(loop: TrainingLoop) -> None:
    """Move a run to the pretended device, as `trainer.device=cuda` does."""
    state, objective = loop.state, loop.objective
    assert state.ema_model is not None
    for module in (state.model, state.ema_model, objective.features):
        to_gpu(module)
    state.device, state.reads_late, objective.device = CUDA, True, CUDA
    state.optimizer = build_optimizer(state.model.parameters(), OptimOptions())
    if width := state.model.config.global_in_channels:  # no recipe has vectors
        vector = torch.zeros(ITEMS, width, device=CUDA)
        objective.nll = functools.partial(state.model.nll, vector=vector)


class RecordedGates:
    """The kernels of the fused gate, which do nothing."""

    device, max_shared_bytes = CUDA, 48 * 1024

    def __init__(self) -> None:
        self.devices: set[torch.device] = set()
        self.ways: set[str] = set()

    def launch(self, launch: Launch) -> None:
        self.devices |= {tensor.device for tensor in launch.tensors.values()}
        self.ways.add(launch.kernel.split("_")[1])


def update(case: str, run: Path, **options: Any) -> PretendedGpu:
    """Make an update and read its result; return what it asked for."""
    loop = build(case, run, **options)
    batch = batch_of(loop.state.model)
    gates = RecordedGates()
    with pretended_gpu() as gpu, pytest.MonkeyPatch.context() as patch:
        patch.setattr(gated_activation, "gate_kernels", lambda device: gates)
        move(loop)
        gpu.clear()
        loop.update(iter([batch]))
        assert loop.read_results(late=True) == []
        assert loop.read_results(late=False) == [1.0]
        weights = loop.state.model.parameters()
        assert {w.grad is not None and w.grad.device.type for w in weights} == {"cuda"}
    assert gates.devices == {CUDA}
    assert gates.ways == {"forward", "backward"}
    return gpu


@pytest.mark.parametrize(
    ("case", "precision"),
    [
        *((case, "bf16-mixed") for case in CASES),
        *((case, "32-true") for case in ("kernel-3", "vector", "gaussian", "nearest", "repeat")),
    ],
)
def test_an_update_neither_mixes_devices_nor_waits(
    tmp_path: Path, case: str, precision: str
) -> None:
    gpu = update(case, tmp_path, precision=precision)

    assert not gpu.syncs
    assert not [copy for copy in gpu.copies if copy.startswith("blocking")]
    assert gpu.products


def test_an_update_with_recomputed_activations_does_not_wait(tmp_path: Path) -> None:
    gpu = update("kernel-3", tmp_path, activation_checkpointing=True)

    assert not gpu.syncs


@pytest.mark.parametrize("precision", ["32-true", "tf32", "bf16-mixed"])
def test_products_have_the_precision_that_is_asked_for(tmp_path: Path, precision: str) -> None:
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32"  # as a process may have set it
    try:
        gpu = update("repeat", tmp_path, precision=precision)
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before

    of_mels = {used for place, used in gpu.products if place.startswith("features/mel.py")}
    others = {used for place, used in gpu.products if not place.startswith("features/mel.py")}
    in_float32 = {("ieee", "ieee", False)}
    assert of_mels == in_float32
    assert others == ({("tf32", "tf32", False)} if precision == "tf32" else in_float32)
    assert matmul.allow_bf16_reduced_precision_reduction


def _dropout_on_cpu(x: Tensor, dropout: float) -> Tensor:
    return torch.ones(x.shape)


def _keep_on_cpu(self: GlobalConditioner, batch_size: int) -> Tensor:
    return torch.rand(batch_size) > 0.5


def _stack_on_cpu(kind: Any, dtype: torch.dtype) -> Tensor:
    present = [tensor for tensor in kind if tensor is not None]
    return torch.stack(present).to("cpu", dtype) if present else torch.empty(0)


def _quarter_on_cpu(self: LogisticMixture, x: Tensor) -> Tensor:
    return x * torch.full((1,), 0.25)


@pytest.mark.parametrize(
    ("case", "owner", "name", "bug"),
    [
        ("kernel-3", fused_stack, "dropout_mask", _dropout_on_cpu),
        ("speakers", GlobalConditioner, "_keep_mask", _keep_on_cpu),
        ("categorical", stack_weights, "_stack_present", _stack_on_cpu),
        ("logistic", LogisticMixture, "log_below", _quarter_on_cpu),
    ],
    ids=["dropout", "null-speakers", "weights", "constant"],
)
def test_a_planted_tensor_on_the_cpu_is_found(
    tmp_path: Path, case: str, owner: Any, name: str, bug: Callable[..., Any]
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match="cpu"):
        patch.setattr(owner, name, bug)
        update(case, tmp_path)


def test_a_planted_read_of_a_number_is_counted(tmp_path: Path) -> None:
    mean = loop_module.masked_mean

    def read(values: Tensor, mask: Tensor, count: Tensor) -> Tensor:
        assert float(count)
        return mean(values, mask, count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module, "masked_mean", read)
        gpu = update("categorical", tmp_path)

    assert sum(gpu.syncs.values()) == 1


def test_speakers_on_the_gpu_are_checked_there() -> None:
    model = WaveNet(dataclasses.replace(SMALL, num_speakers=3))
    with pretended_gpu() as gpu:
        to_gpu(model)
        model.compute_global_conditioning(2, torch.zeros(2, dtype=torch.int64, device=CUDA))

    assert sum(gpu.syncs.values()) == 1
