"""Speed of training: forward, loss, backward and Adam, on noise.

Each case has a process of its own, so that its memory is its own and no case changes the settings
of another. The matrix products of this machine, the hardware limit, are measured in this process.
"""

import contextlib
import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavenet.benchmarks.framework import (
    Measurement,
    Timing,
    calls_per_second,
    measure_interleaved,
    process_memory_mib,
    worker_process,
)
from wavenet.config import WaveNetConfig
from wavenet.data.audio import open_wav
from wavenet.data.dataset import ClipReader, RandomSegments
from wavenet.data.manifest import Clip, read_manifest, write_manifest
from wavenet.distributions import Categorical
from wavenet.model import WaveNet
from wavenet.model_summary import layer_rows
from wavenet.modules import GatedActivation
from wavenet.training.acceleration import accelerate, compile_nll, keep_freed_memory
from wavenet.training.options import TrainerOptions
from wavenet.utils.dataclass_io import from_dict, to_dict
from wavenet.utils.files import file_digest

MATRIX_SIZE = {"cpu": 2048, "cuda": 8192}  # rows and columns


@dataclass(frozen=True)
class TrainingCase:
    """An implementation and the shape of its batches.

    Implementation `baseline` is WaveNet in PyTorch's own layers, `fused` what `wavenet-train` runs;
    `compiled` adds torch.compile, `checkpointed` activation checkpointing, and `plain_gates` leaves
    the gates to PyTorch.
    """

    implementation: str
    precision: str  # of the matrix products
    device: str  # `cpu` or `cuda`
    batch_size: int  # segments of one update
    segment_length: int  # samples of each segment

    @property
    def name(self) -> str:
        """Return its label in a chart."""
        shape = f"{self.batch_size} x {self.segment_length}"
        return f"{self.implementation.replace('_', ', ')}, {self.precision}, {shape}"

    def is_baseline_of(self, other: "TrainingCase") -> bool:
        """Return whether this is the baseline with the same batches."""
        shape = (self.batch_size, self.segment_length)
        same = shape == (other.batch_size, other.segment_length)
        return self.implementation == "baseline" and same


def training_cases(
    batch_shapes: Sequence[str],
    implementations: Sequence[str],
    precisions: Sequence[str],
    device: str,
) -> list[TrainingCase]:
    """Return all combinations; a shape is such as `8x16000`, segments and samples of each."""
    combinations = itertools.product(batch_shapes, implementations, precisions)
    return [
        TrainingCase(implementation, precision, device, *map(int, shape.split("x")))
        for shape, implementation, precision in combinations
    ]


def measure_training(
    config: WaveNetConfig,
    cases: Sequence[TrainingCase],
    repeats: int,
    seconds: float,
    description: str = "training",
) -> list[Measurement[TrainingCase]]:
    """Return the speed and memory of each case, and the limit by this machine's matrix products.

    Args:
        config: Shape of the model: categorical, unconditional.
        cases: What is measured.
        repeats: Measurements of each case.
        seconds: Time of one measurement, at least one update.
        description: For the progress bar.

    Raises:
        MachineError: A process failed; the message has the last line of its stderr.
    """
    operations = 3 * sum(row.operations for row in layer_rows(config))  # forward and backward
    with contextlib.ExitStack() as stack:
        processes = [
            worker_process(_training_meter, [to_dict(case), to_dict(config)], case.name)
            for case in cases
        ]
        workers = [stack.enter_context(process) for process in processes]
        matrix_products = _matrix_meter(cases[0].device)
        for measure in workers:
            measure(seconds)  # the first updates allocate memory, and may compile

        def measure_all(repeat: int) -> Iterator[Timing]:
            peaks = matrix_products(seconds)
            for case, measure in zip(cases, workers, strict=True):
                found = measure(seconds)
                yield Timing(found["rate"], peaks[case.precision] / operations, found["memory_mib"])

        return measure_interleaved(cases, measure_all, repeats, description)


def _training_meter(
    plain_case: dict[str, Any], plain_config: dict[str, Any]
) -> Callable[[float], dict[str, float]]:
    """Return a function that trains for so many seconds and returns speed and memory."""
    case = from_dict(TrainingCase, plain_case)
    update = _make_update(case, from_dict(WaveNetConfig, plain_config))
    before = _memory_mib(case.device)

    def measure(seconds: float) -> dict[str, float]:
        updates = calls_per_second(update, case.device, seconds)
        rate = updates * case.batch_size * case.segment_length
        return {"rate": rate, "memory_mib": max(0.0, _memory_mib(case.device, peak=True) - before)}

    return measure


def _make_update(case: TrainingCase, config: WaveNetConfig) -> Callable[[], None]:
    """Return a function that does one update of the weights."""
    torch.manual_seed(0)
    model: WaveNet | BaselineWaveNet
    if case.implementation.startswith("baseline"):
        model = BaselineWaveNet(config)
    else:
        keep_freed_memory()
        model = WaveNet(config)
        checkpointed = case.implementation == "fused_checkpointed"
        accelerate(model, TrainerOptions(activation_checkpointing=checkpointed))
        if case.implementation == "fused_plain_gates":
            model.stack.gated_activation = GatedActivation
    nn.Module.to(model, case.device)
    nll: Callable[[Tensor], Tensor] = model.nll
    if case.implementation.endswith("compiled"):
        nll = compile_nll(model) if isinstance(model, WaveNet) else torch.compile(nll)
    fused = case.implementation.startswith("fused")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=fused or None)
    waveform = torch.rand(case.batch_size, case.segment_length, device=case.device) * 2 - 1

    def update() -> None:
        autocast = case.precision == "bf16-mixed"
        with torch.autocast(case.device, torch.bfloat16, enabled=autocast):
            loss = nll(waveform).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return update


def _matrix_meter(device: str) -> Callable[[float], dict[str, float]]:
    """Return a function that returns operations per second of large products, by precision."""
    size = MATRIX_SIZE[device]

    def measure(seconds: float) -> dict[str, float]:
        found = {}
        for precision, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
            a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
            a @ b
            calls = calls_per_second(functools.partial(torch.mm, a, b), device, seconds / 4)
            found[precision] = calls * 2 * size**3
        return found

    return measure


def _memory_mib(device: str, *, peak: bool = False) -> float:
    """Return the memory of this process on the device that it computes on."""
    if device != "cuda":
        return process_memory_mib(peak=peak)
    return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 2**20


class BaselineWaveNet(nn.Module):
    """An unconditional model of classes in PyTorch's own layers, the baseline.

    A block is a padded `Conv1d`, tanh times sigmoid, and a sum of skips. The same weights give the
    same likelihood as in `WaveNet`.

    Args:
        config: Shape of the weights.
    """

    def __init__(self, config: WaveNetConfig) -> None:
        super().__init__()
        self.config = config
        self.distribution = Categorical.from_config(config)
        self.silence = int(self.distribution.encode(torch.zeros(1)))
        width, half = config.residual_channels, config.gate_channels // 2
        self.embedding = nn.Embedding(config.quantization_channels, width)
        self.convs = nn.ModuleList(
            nn.Conv1d(width, 2 * half, config.kernel_size, dilation=dilation)
            for dilation in config.dilations
        )
        self.residuals = nn.ModuleList(nn.Conv1d(half, width, 1) for _ in config.dilations[1:])
        self.skips = nn.ModuleList(
            nn.Conv1d(half, config.skip_channels, 1) for _ in config.dilations
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv1d(config.skip_channels, config.head_channels, 1),
            nn.ReLU(),
            nn.Conv1d(config.head_channels, config.quantization_channels, 1),
        )

    def nll(self, waveform: Tensor) -> Tensor:
        """Return the negative log-likelihood of every sample in nats, `(B, T)`."""
        kernel_size, codes = self.config.kernel_size, self.distribution.encode(waveform)
        shifted = F.pad(codes, (1, 0), value=self.silence)[:, :-1]
        x = self.embedding(shifted).transpose(1, 2)
        total = torch.zeros((), device=x.device)
        for block, dilation in enumerate(self.config.dilations):
            y = self.convs[block](F.pad(x, ((kernel_size - 1) * dilation, 0)))
            tanh, sigmoid = y.chunk(2, dim=1)
            z = torch.tanh(tanh) * torch.sigmoid(sigmoid)
            total = total + self.skips[block](z)
            if block < len(self.residuals):
                x = x + self.residuals[block](z)
        return F.cross_entropy(self.head(total).float(), codes, reduction="none")


def segments_read_per_second(
    segment_length: int, context: int, *, num_clips: int = 50, seconds: float = 1.0
) -> float:
    """Return how many segments of prepared clips one process reads in a second.

    Args:
        segment_length: Samples of a segment.
        context: Samples before each segment: the receptive field.
        num_clips: Clips of five seconds at 16 kHz, in a temporary folder.
        seconds: Time of the measurement.
    """
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clips = []
        for number in range(num_clips):
            path = folder / f"{number}.wav"
            with open_wav(path, 16000) as file:
                file.write((generator.random(80_000) - 0.5).astype(np.float32))
            digest = file_digest(path)
            clips.append(Clip(path.name, 80_000, 16000, "", "train", digest, path.name, 0))
        write_manifest(folder / "manifest.jsonl", clips)
        segments = RandomSegments(
            ClipReader(folder),
            read_manifest(folder, "train"),
            segment_length=segment_length,
            context=context,
            batch_size=1,
            seed=0,
        )
        numbers = itertools.count()
        return calls_per_second(lambda: segments[next(numbers)], "cpu", seconds)
